"""Runs, Compare, sweeps and models: rows follow events, numbers are the API's, actions say what they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from app.run_config import RunConfig
from app.tables import Run, RunStatus
from tests.web.conftest import QUICK, Service, WatchedPages

pytestmark = pytest.mark.xdist_group("web")


# Scrolls by less than what is in sight, and waits until the rows are drawn.
SCROLL = """async () => {
  scrollBy(0, 700);
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
}"""


def test_rows_show_the_numbers_of_the_api_and_a_sweep_is_one_row(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("runs"))
    row = page.locator(f'tr[data-id="{service.run_id}"]')
    run = service.processes.get(service.run_id)
    expect(row).to_contain_text(f"{run['best']['val_accuracy'] * 100:.1f}")
    expect(row).to_contain_text(f"{run['num_parameters']:,}")
    expect(row).to_contain_text("champion")
    expect(row.locator(".sparkcell path")).to_be_visible()
    expect(page.locator(f'tr[data-id="{service.sweep_id}"]')).to_contain_text("4 trials")
    page.get_by_role("searchbox").fill("unit:2")
    expect(page.locator("tbody tr[data-id]")).to_have_count(1)
    assert "q=unit" in page.url
    page.get_by_role("searchbox").fill("nothing is called so")
    expect(page.get_by_text("No run is like that")).to_be_visible()


def test_a_row_follows_events_without_a_reload(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("runs"))
    run_id = service.processes.submit({"name": "followed", **QUICK})
    row = page.locator(f'tr[data-id="{run_id}"]')
    expect(row).to_be_visible()
    service.processes.finish(run_id)
    expect(row.locator(".status.succeeded")).to_be_visible()
    expect(row.locator(".acc")).to_be_visible()
    assert service.processes.client.patch(f"/runs/{run_id}", json={"name": "renamed"}).is_success
    assert service.processes.client.delete(f"/runs/{run_id}").is_success
    expect(row).to_contain_text("deleted")


def test_a_paused_run_is_resumed_and_cancelled_by_its_buttons(service: Service, open_page: WatchedPages) -> None:
    run_id = service.processes.submit({"name": "handled", "training": {"epochs": 100_000, "batch_size": 1000}})
    page, _ = open_page(f"{service.url}/#/runs/{run_id}", (409, "/weights"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".head .status").first).to_contain_text("paused")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".head .status").first).to_contain_text("cancelled")
    delete = page.get_by_role("button", name="Delete")
    delete.click()
    expect(page.get_by_role("button", name="Delete for good?")).to_be_visible()
    page.get_by_role("button", name="Delete for good?").click()
    expect(page).to_have_url(re.compile("#/runs$"))
    assert service.processes.client.get(f"/runs/{run_id}").status_code == 404


def test_a_thousand_runs_are_at_most_sixty_rows_of_the_document(service: Service, open_page: WatchedPages) -> None:
    config = RunConfig()
    columns: dict[str, Any] = {
        "model_kind": "mlp",
        "config": config.model_dump(mode="json"),
        "stack_key": config.stack_key,
    }
    columns |= {"device": "auto", "seed": 0, "epochs": 10, "status": RunStatus.CANCELLED, "tags": {"seeded": "yes"}}
    with service.processes.database.writing() as session:
        for number in range(1000):
            session.add(Run(name=f"seeded {number:04}", **columns))
    page, _ = open_page(f"{service.url}/#/runs?tag=seeded%3Ayes&sort=name")
    expect(page.locator(".head .note")).to_contain_text("of 1,000")
    seen: dict[str, None] = {}
    for _ in range(400):
        rows = page.locator("tbody tr[data-id] .runname a").all_inner_texts()
        assert len(rows) <= 60
        seen.update(dict.fromkeys(rows))
        if len(seen) >= 1000:
            break
        page.evaluate(SCROLL)
    assert list(seen) == [f"seeded {number:04}" for number in range(1000)]


def test_compare_lays_runs_side_by_side_and_refuses_thirteen(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("compare"))
    expect(page.locator(".duel h3")).to_have_count(3)
    answer = service.processes.client.get(
        f"/runs/{service.other_id}/mistakes", params={"against": service.run_id}
    ).json()
    expected = [len(answer[part]) for part in ("fixed", "introduced", "shared")]
    assert [int(text.split()[0]) for text in page.locator(".duel h3").all_inner_texts()] == expected
    expect(page.locator(".third")).to_contain_text("noise")
    many = "&".join(f"run=run-{number}" for number in range(13))
    other, _ = open_page(f"{service.url}/#/compare?{many}")
    expect(other.locator("#main")).to_contain_text("At most 12 runs can be compared; these are 13.")
    gone, _ = open_page(f"{service.url}/#/compare?run={service.run_id}&run=01a20e0d-2749-744b-97b3-2c4e726a71a1")
    expect(gone.locator("#main")).to_contain_text("deleted")


def test_a_sweeps_sentence_is_the_reports_and_its_pictures_light_together(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("sweep"))
    report = service.processes.client.get(f"/sweeps/{service.sweep_id}/report").json()
    expect(page.locator(".sentence")).to_have_text(report["answer"])
    best = report["noise"]["best_point"]
    page.locator(f'.cell[data-point="{best}"]').hover()
    for picture in (".heats .cell.lit", ".s-cost .pt.lit", ".s-table tr.lit"):
        expect(page.locator(picture)).to_have_count(1)
    expect(page.locator(".s-effects .pt.lit")).to_have_count(len(report["effects"]))
    page.get_by_role("button", name="Parallel").click()
    expect(page.locator(".strand")).to_have_count(4)
    assert "view=parallel" in page.url


def test_a_model_is_pinned_rolled_back_and_unpinned(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("models"))
    expect(page.locator(".heroname")).to_have_text("first model")
    page.get_by_role("button", name="Pin narrow").click()
    expect(page.locator(".heroname")).to_have_text("narrow")
    expect(page.locator(".why .chip")).to_have_text("pinned")
    page.get_by_role("button", name="Roll back to first model").click()
    expect(page.locator(".heroname")).to_have_text("first model")
    page.get_by_role("button", name="Roll back to narrow").click()
    expect(page.locator(".heroname")).to_have_text("narrow")
    page.get_by_role("button", name="Back to automatic: first model").click()
    expect(page.locator(".heroname")).to_have_text("first model")
    expect(page.locator(".why .chip")).to_have_text("automatic")
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="ONNX").click()
    file = Path(downloaded.value.path())
    assert file.read_bytes() == service.processes.client.get(f"/runs/{service.run_id}/model.onnx").content
