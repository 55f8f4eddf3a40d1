"""Runs, Compare, sweeps and models: rows follow events, numbers are the API's, actions say what they do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy import delete as sql_delete

from app.run_config import RunConfig
from app.run_costs import stack_key
from app.tables import Run, RunStatus
from tests.e2e.conftest import Processes
from tests.web.conftest import QUICK, Service, WatchedPages, frames

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
    page.get_by_role("searchbox").fill("")
    with page.expect_response(lambda response: "q=xxx" in response.url) as asked:
        page.get_by_role("searchbox").focus()
        page.keyboard.insert_text("x" * 300)  # a longer one would be refused
    assert asked.value.ok


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


def test_rows_follow_what_is_done_to_their_runs_by_events(service: Service, open_page: WatchedPages) -> None:
    client = service.processes.client
    run_id = service.processes.submit({"name": "handled", "training": {"epochs": 100_000, "batch_size": 1000}})
    page, _ = open_page(service.address("runs"), (409, f"/runs/{run_id}$"))
    page.evaluate("window.isNotReloaded = true")
    row = page.locator(f'tr[data-id="{run_id}"]')
    expect(row.locator(".inprogress")).to_be_visible()
    assert client.post(f"/runs/{run_id}/pause").is_success
    expect(row.locator(".status.paused")).to_be_visible()
    expect(row.locator(".progress")).to_contain_text("paused at")
    assert client.post(f"/runs/{run_id}/resume").is_success
    expect(row.locator(".status.running")).to_be_visible()
    row.get_by_role("checkbox").click()
    dock = page.get_by_role("toolbar", name="Chosen runs")
    dock.get_by_role("button", name="Tag").click()
    page.get_by_label("Tag, as key:value").fill("unit: 3")
    dock.get_by_role("button", name="Tag").click()
    expect(row.locator(".chip.line")).to_have_text("unit:3")
    assert service.processes.get(run_id)["tags"] == {"unit": "3"}
    delete(page, row)
    refused = client.delete(f"/runs/{run_id}")
    assert refused.status_code == 409
    expect(page.locator(".toast", has_text=refused.json()["detail"])).to_be_visible()
    assert client.post(f"/runs/{run_id}/cancel").is_success
    expect(row.locator(".status.cancelled")).to_be_visible()
    service.processes.finish(run_id)
    delete(page, row)
    expect(row.locator(".chip.bad")).to_have_text("deleted")
    assert client.get(f"/runs/{run_id}").status_code == 404
    assert page.evaluate("window.isNotReloaded")


def delete(page: Page, row: Locator) -> None:
    """Delete a run by the dock, as one who has read the question does."""
    row.get_by_role("checkbox").set_checked(True)
    dock = page.get_by_role("toolbar", name="Chosen runs")
    dock.get_by_role("button", name="Delete").click()
    expect(dock).to_contain_text("This cannot be undone.")
    dock.get_by_role("button", name="Delete").click()


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


def test_a_click_on_a_row_that_is_drawn_anew_meanwhile_counts(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("runs"))
    box = page.locator("tbody tr[data-id] input:enabled").first
    box.hover()
    page.mouse.down()
    box.evaluate("(box) => { window.pressed = box; }")
    added = service.processes.client.post("/runs", json={"name": "meanwhile", "training": {"epochs": 1}}).json()["id"]
    assert service.processes.finish(added)["status"] == "succeeded"
    page.wait_for_timeout(1500)  # longer than the list waits before it reads rows again
    assert page.evaluate("pressed.isConnected")
    page.mouse.up()
    expect(page.get_by_role("toolbar", name="Chosen runs")).to_be_visible()
    expect(page.locator(f'tr[data-id="{added}"]')).to_be_visible()


NUM_SEEDED = 1000
# The time from the address to the first row that stands, and each request for small lines.
MEASURE = """
  new MutationObserver((_, observer) => {
    if (!document.querySelector("tbody tr[data-id]")) return;
    window.firstRow = performance.now();
    observer.disconnect();
  }).observe(document, { subtree: true, childList: true });
"""


@pytest.fixture(scope="module")
def thousand(service: Service) -> Iterator[dict[str, str]]:
    """A thousand runs as rows of the database, the best not the first by name; the filter that finds them."""
    config = RunConfig()
    columns: dict[str, Any] = {"model_kind": "mlp", "config": config.model_dump(mode="json"), "device": "auto"}
    columns |= {"stack_key": stack_key(config), "seed": 0, "epochs": 10, "epoch": 10, "tags": {"seeded": "yes"}}
    statuses = (RunStatus.CANCELLED, RunStatus.CANCELLED, RunStatus.FAILED)
    with service.processes.database.writing() as session:
        for number in range(NUM_SEEDED):
            accuracy = 0.5 + (number * 377 % NUM_SEEDED) / 4000
            run = Run(name=f"seeded {number:04}", status=statuses[number % 3], best_val_accuracy=accuracy, **columns)
            run.best_epoch, run.best_val_loss = 10, 1 - accuracy
            run.num_parameters = 1000 + number * 7 % NUM_SEEDED
            session.add(run)
    yield {"tag": "seeded:yes"}
    with service.processes.database.writing() as session:
        session.execute(sql_delete(Run).where(Run.name.like("seeded %")))


def shown_ids(page: Page) -> list[str]:
    ids: list[str] = page.locator("tbody tr[data-id]").evaluate_all("(rows) => rows.map((row) => row.dataset.id)")
    return ids


def test_a_thousand_runs_are_at_most_sixty_rows_of_the_document(
    service: Service, open_page: WatchedPages, thousand: dict[str, str]
) -> None:
    page, _ = open_page(f"{service.url}/#/states")
    page.add_init_script(MEASURE)
    page.goto("about:blank")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{service.url}/#/runs?{urlencode(thousand)}&sort=name")
    expect(page.locator(".head .note")).to_contain_text(f"of {NUM_SEEDED:,}")
    print(f"first of {NUM_SEEDED:,} rows after {page.evaluate('firstRow'):.0f} ms")
    seen: dict[str, None] = {}
    for _ in range(400):
        rows = page.locator("tbody tr[data-id] .runname a").all_inner_texts()
        assert len(rows) <= 60
        seen.update(dict.fromkeys(rows))
        if len(seen) >= NUM_SEEDED:
            break
        page.evaluate(SCROLL)
    assert list(seen) == [f"seeded {number:04}" for number in range(NUM_SEEDED)]
    pages = [url for url in requests if "/runs?" in url and "limit=50" in url]
    assert len(pages) == NUM_SEEDED / 50, "one request a page of rows"
    series = [parse_qs(urlsplit(url).query)["run_id"] for url in requests if "/charts/series" in url]
    asked = [run_id for ids in series for run_id in ids]
    assert len(asked) == len(set(asked)) == NUM_SEEDED, "each run's small line is asked for once"
    assert len(series) <= len(pages), "one request a page of small lines"


COLUMNS = {"Val accuracy": "val_accuracy", "Parameters": "num_parameters", "Run": "name", "Created": "created_at"}


def test_rows_stand_in_the_services_order_and_are_those_that_it_finds(
    service: Service, open_page: WatchedPages, thousand: dict[str, str]
) -> None:
    page, _ = open_page(f"{service.url}/#/runs?{urlencode(thousand)}&sort=shifted_accuracy")
    for head, column in COLUMNS.items():
        for sort in (f"-{column}", column):
            page.get_by_role("button", name=head, exact=True).click()
            compare(page, service, {**thousand, "sort": sort})
    page.get_by_role("button", name="failed").click()
    compare(page, service, {**thousand, "sort": column, "status": "failed"})
    page.get_by_role("searchbox").fill("seeded 09")
    compare(page, service, {**thousand, "sort": column, "status": "failed", "q": "seeded 09"})
    assert f"sort={column}" in page.url
    assert "status=failed" in page.url


def compare(page: Page, service: Service, filters: dict[str, str]) -> None:
    """Wait until the rows are those of `GET /runs` with these filters, from the first on."""
    answer = service.processes.client.get("/runs", params={**filters, "limit": 50, "counts": True}).json()
    ids = [run["id"] for run in answer["data"]]
    expect(page.locator("tbody tr[data-id]").first).to_have_attribute("data-id", ids[0])
    status = filters.get("status", "total")
    expect(page.locator(".head .note")).to_contain_text(f"of {answer['counts'][status]:,}")
    shown = shown_ids(page)
    assert len(shown) >= min(20, len(ids))
    assert shown == ids[: len(shown)]


def test_compare_lays_runs_side_by_side_and_refuses_thirteen(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("compare"))
    expect(page.locator(".duel h3")).to_have_count(3)
    answer = service.processes.client.get(
        f"/runs/{service.other_id}/mistakes", params={"against": service.run_id}
    ).json()
    expected = [len(answer[part]) for part in ("fixed", "introduced", "shared")]
    assert [int(text.split()[0]) for text in page.locator(".duel h3").all_inner_texts()] == expected
    expect(page.locator(".third")).to_contain_text("noise")
    with page.expect_response(re.compile(rf"/{service.run_id}/metrics\?.*after=9&until=20")) as asked:
        page.goto(f"{service.address('compare')}&epochs=10..20")
    assert [row["epoch"] for row in asked.value.json()["data"]] == list(range(10, 21))
    expect(page.locator(".half").first).to_contain_text("10 to 20")
    page.get_by_role("button", name="all epochs").click()
    expect(page.locator(".half").first).not_to_contain_text("10 to 20")
    many = "&".join(f"run=run-{number}" for number in range(13))
    other, _ = open_page(f"{service.url}/#/compare?{many}")
    expect(other.locator("#main")).to_contain_text("At most 12 runs can be compared; these are 13.")
    gone, _ = open_page(f"{service.url}/#/compare?run={service.run_id}&run=01a20e0d-2749-744b-97b3-2c4e726a71a1")
    expect(gone.locator("#main")).to_contain_text("deleted")


def test_twelve_runs_are_compared_also_one_of_another_split_and_one_that_is_deleted(
    service: Service, open_page: WatchedPages
) -> None:
    client = service.processes.client
    tiny = {"model": {"hidden_sizes": [4]}, "training": {"epochs": 2}}
    ids = [service.processes.submit({"name": f"tiny {number}", "seed": number, **tiny}) for number in range(9)]
    ids.append(service.processes.submit({"name": "elsewhere", "split": {"seed": 7}, **tiny}))
    for run_id in ids:
        assert service.processes.finish(run_id)["status"] == "succeeded"
    wanted = [service.run_id, service.other_id, *ids]
    address = f"{service.url}/#/compare?" + "&".join(f"run={run_id}" for run_id in wanted)
    page, _ = open_page(address, (409, "/mistakes"))
    expect(page.locator(".third th.num")).to_have_count(12)
    expect(page.locator(".half").first.locator("path.series")).to_have_count(24)
    heads = page.locator(".third th.num").all_inner_texts()
    assert heads == [service.processes.get(run_id)["name"] for run_id in wanted]
    split = page.locator(".third tr", has_text="split seed")
    usual = str(service.processes.get(service.run_id)["config"]["split"]["seed"])
    assert split.locator("td.num").all_inner_texts() == [*[usual] * 11, "7"]
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.get_by_label("Run", exact=True).select_option("elsewhere")
    refusal = client.get(f"/runs/{ids[-1]}/mistakes", params={"against": service.run_id})
    assert refusal.status_code == 409
    expect(page.locator(".twothirds .body")).to_have_text(refusal.json()["detail"])
    assert client.delete(f"/runs/{ids[0]}").is_success
    fewer, _ = open_page(address)
    expect(fewer.locator(".third th.num")).to_have_count(11)
    expect(fewer.locator(".head .chip.warn")).to_have_text("1 deleted")
    for run_id in ids[1:]:
        assert client.delete(f"/runs/{run_id}").is_success


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


def test_each_sweep_stands_once_in_the_list_wherever_it_falls(idle_service: Processes, open_page: WatchedPages) -> None:
    idle_service.start_api()
    client = idle_service.client
    sweep = {"base": {"training": {"epochs": 1}}, "parameters": {"seed": [1]}}
    for made in ("sweep",) * 51 + ("run",) * 3 + ("sweep", *("run",) * 50) * 2 + ("sweep",):
        document = sweep if made == "sweep" else {}
        assert client.post(f"/{made}s", json=document).is_success
    runs, sweeps = ([each["id"] for each in everything(client, path)] for path in ("/runs", "/sweeps"))
    expected = sorted((*runs, *sweeps), reverse=True)
    assert len(sweeps) == 54, "more than one page of them"
    assert [expected.index(each) for each in sweeps[:3]] == [0, 51, 102], "before, between and after pages of 50 runs"
    page, _ = open_page(f"http://127.0.0.1:{idle_service.port}/#/runs")
    seen: list[str] = []
    for _ in range(30):
        seen += [each for each in shown_ids(page) if each not in seen]
        if len(seen) == len(expected):
            break
        page.evaluate(SCROLL)
    assert seen == expected


def everything(client: Any, path: str) -> list[dict[str, Any]]:
    """Return all entries of a list, without the trials of sweeps."""
    found: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {"limit": 200} | ({"sweep_id": "none"} if path == "/runs" else {})
    while True:
        page = client.get(path, params=parameters).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        parameters["after"] = page["next"]


def test_more_than_a_page_of_rows_change_at_once_and_counts_follow(
    idle_service: Processes, open_page: WatchedPages
) -> None:
    idle_service.start_api()
    client = idle_service.client
    ids = [idle_service.submit({"name": f"many {number:02}"}) for number in range(60)]
    page, _ = open_page(f"http://127.0.0.1:{idle_service.port}/#/runs?{urlencode({'select': ids}, doseq=True)}")
    note = page.locator(".head .note")
    for _ in range(5):
        page.evaluate(SCROLL)
    expect(note).to_have_text("60 of 60")
    dock = page.get_by_role("toolbar", name="Chosen runs")
    dock.get_by_role("button", name="Tag").click()
    page.get_by_label("Tag, as key:value").fill("mark:one")
    dock.get_by_role("button", name="Tag").click()
    expect(page.locator(".toast", has_text="60 tagged")).to_be_visible()
    for name in ("many 00", "many 30", "many 59"):
        row = page.locator("tbody tr", has_text=name)
        page.evaluate("scrollTo(0, 0)")
        frames(page)
        for _ in range(20):
            if row.count():
                break
            page.evaluate(SCROLL)
        expect(row.locator(".chip.line", has_text="mark:one")).to_be_visible()
    for number in range(3):
        idle_service.submit({"name": f"later {number}"})
    expect(note).to_have_text("63 of 63")
    queued = page.locator('.seg button[value="queued"] .count')
    expect(queued).to_have_text("63")
    assert client.post(f"/runs/{ids[0]}/cancel").is_success
    expect(queued).to_have_text("62")
