"""One run's page: its cursor, its cells, the requests that make an equal run, and unusual runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.e2e.conftest import wait_for
from tests.web.conftest import PATIENCE_MS, QUICK, Service, WatchedPages

UNUSUAL: dict[str, dict[str, Any]] = {
    "diverged": {"training": {"epochs": 20, "optimizer": {"learning_rate": 100.0, "weight_decay": 10.0}}},
    "a forest": {"model": {"kind": "random_forest", "n_estimators": 3, "max_depth": 4}},
    "one epoch": {"training": {"epochs": 1}},
    "no hidden layer": {"model": {"hidden_sizes": []}, "training": {"epochs": 3}},
    "eight layers": {"model": {"hidden_sizes": [8] * 8}, "training": {"epochs": 3}},
    "wide": {"model": {"hidden_sizes": [1024]}, "training": {"epochs": 2, "batch_size": 200}},
}


def test_the_charts_share_a_cursor_that_the_keyboard_moves_and_speaks(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(f"{service.url}/#/runs/{service.run_id}")
    metrics = service.processes.client.get(f"/runs/{service.run_id}/metrics", params={"points": 400}).json()["data"]
    chart = page.locator(".a-acc .chart")
    chart.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    epoch = metrics[3]["epoch"]
    live = page.locator("#live")
    expect(live).to_contain_text(f"epoch {epoch}: ")
    expect(live).to_contain_text(f"val {metrics[3]['val_accuracy'] * 100:.2f}")
    for name in (".a-acc", ".a-loss"):
        expect(page.locator(f"{name} .cursor")).to_have_count(1)


# The epochs that a chart's line has: how many points it draws, and the numbers below it.
DRAWN = """() => {
  const d = document.querySelector(".a-acc path.series.s-val").getAttribute("d");
  return d.split("L").length;
}"""


def test_a_drag_along_a_chart_asks_for_the_metrics_of_these_epochs(service: Service, open_page: WatchedPages) -> None:
    long = {"model": {"hidden_sizes": [4]}, "training": {"epochs": 1000, "batch_size": 400, "evaluate_every": 1}}
    run_id = service.processes.submit({"name": "to zoom into", **long})
    assert service.processes.finish(run_id)["status"] == "succeeded"
    page, _ = open_page(f"{service.url}/#/runs/{run_id}")
    client = service.processes.client
    note = page.locator(".a-acc .note")
    num_all = len(client.get(f"/runs/{run_id}/metrics", params={"points": 400}).json()["data"])
    assert num_all < 500
    expect(note).to_have_text(f"{num_all} of 1,000 epochs")
    chart = page.locator(".a-acc .chart")
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 110, steps=3)
    expect(chart.locator(".brush")).to_have_count(1)
    with page.expect_response("**/metrics?*") as asked:
        page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 110, steps=3)
        page.mouse.up()
    found = re.search(r"epochs=(\d+)\.\.(\d+)", page.url)
    assert found is not None, page.url
    low, high = int(found[1]), int(found[2])
    assert 300 < low < high < 700
    expected = client.get(f"/runs/{run_id}/metrics", params={"limit": 1000, "after": low - 1, "until": high}).json()
    assert [row["epoch"] for row in expected["data"]] == list(range(low, high + 1))
    assert asked.value.json()["data"] == expected["data"], "no epoch is left out any more"
    expect(note).to_contain_text(f"{low} to {high}")
    for _ in range(2):  # as it is, and opened by its address
        expect(note).to_contain_text(f"{low} to {high}")
        assert page.evaluate(DRAWN) == high - low + 1
        page.reload()
        page.wait_for_selector("html[data-ready]")
    chart.focus()
    page.keyboard.press("-")
    expect(note).not_to_contain_text(f"{low} to {high}")
    page.keyboard.press("Escape")
    expect(note).to_have_text(f"{num_all} of 1,000 epochs")
    assert "epochs=" not in page.url
    page.keyboard.press("+")
    expect(note).to_contain_text(" to ")
    page.get_by_role("button", name="all epochs").click()
    expect(note).to_have_text(f"{num_all} of 1,000 epochs")
    assert client.delete(f"/runs/{run_id}").is_success


def test_a_cell_filters_the_mistakes(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/runs/{service.other_id}")
    mistakes = service.processes.client.get(f"/runs/{service.other_id}/mistakes", params={"limit": 1000}).json()["data"]
    label, predicted = mistakes[0]["label"], mistakes[0]["predicted"]
    expected = sum((each["label"], each["predicted"]) == (label, predicted) for each in mistakes)
    page.locator(f'.matrix button[value="{label},{predicted}"]').click()
    expect(page.locator(".shown a.digit")).to_have_count(expected)
    assert f"cell={label}%2C{predicted}" in page.url or f"cell={label},{predicted}" in page.url
    page.get_by_role("button", name="all", exact=True).click()
    expect(page.locator(".shown a.digit")).to_have_count(min(60, len(mistakes)))


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_request_that_is_copied_makes_an_equal_run(
    service: Service, open_page: WatchedPages, language: str
) -> None:
    page, _ = open_page(f"{service.url}/#/runs/{service.other_id}")
    page.get_by_role("button", name=language, exact=True).click()
    text = page.locator(".a-code pre").inner_text()
    command = [sys.executable, "-c", text] if language == "Python" else shlex.split(text.replace("\\\n", " "))
    before = {run["id"] for run in service.processes.client.get("/runs", params={"q": "narrow"}).json()["data"]}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    runs = service.processes.client.get("/runs", params={"q": "narrow"}).json()["data"]
    (made,) = [run for run in runs if run["id"] not in before]
    original = service.processes.get(service.other_id)
    assert made["config"] == original["config"]
    assert service.processes.finish(made["id"])["best"] == original["best"]
    assert service.processes.client.delete(f"/runs/{made['id']}").is_success


def test_unusual_runs_have_a_page_too(service: Service, open_page: WatchedPages) -> None:
    ids = {name: service.processes.submit({"name": name, **document}) for name, document in UNUSUAL.items()}
    members = {"kind": "ensemble", "members": [service.run_id, service.other_id]}
    ids["an ensemble"] = service.processes.submit({"name": "an ensemble", "model": members})
    statuses = {name: service.processes.finish(run_id)["status"] for name, run_id in ids.items()}
    assert statuses == dict.fromkeys(ids, "succeeded") | {"diverged": "failed"}
    page, _ = open_page(service.address("runs"))
    for name, run_id in ids.items():
        page.goto(f"{service.url}/#/runs/{run_id}")
        expect(page).to_have_title(f"{name} · digitlab")
        expect(page.locator(".head .status").first).to_contain_text(statuses[name])
        expect(page.locator(".a-config")).to_be_visible()
        expect(page.locator(".matrix button")).to_have_count(0 if name == "diverged" else 100)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    expect(page.locator("#main")).to_contain_text("asks its members")
    for run_id in ids.values():
        assert service.processes.client.delete(f"/runs/{run_id}").is_success


def test_an_accuracys_error_is_of_the_images_that_the_run_was_measured_on(
    service: Service, open_page: WatchedPages
) -> None:
    tiny = {"model": {"hidden_sizes": [4]}, "training": {"epochs": 3}}
    splits: list[tuple[dict[str, Any], int]] = [
        ({"fold": {"number": 1, "of": 5}}, 252),
        ({"val_size": 0.05, "test_size": 0.1}, 90),
        ({}, 540),
    ]
    ids = {service.processes.submit({"split": split, **tiny}): number for split, number in splits}
    page, _ = open_page(service.address("runs"), (409, "/mistakes"))
    for run_id, number in ids.items():
        run = service.processes.finish(run_id)
        share = run["best"]["val_accuracy"]
        page.goto(f"{service.url}/#/runs/{run_id}")
        expect(page.locator(".stat.lead small")).to_have_text(f" ± {100 * (share * (1 - share) / number) ** 0.5:.1f}")
        counts = service.processes.client.get(f"/runs/{run_id}/confusion").json()["counts"]
        assert sum(map(sum, counts)) == number
    page.goto("about:blank")
    page.goto(f"{service.url}/#/compare?" + "&".join(f"run={run_id}" for run_id in ids))
    page.wait_for_selector("html[data-ready=compare]")
    found = page.evaluate(NUM_VAL, [service.processes.get(run_id)["config"] for run_id in ids])
    assert found == list(ids.values())
    for run_id in ids:
        assert service.processes.client.delete(f"/runs/{run_id}").is_success


NUM_VAL = "async (configs) => configs.map((await import('/web/js/splits.js')).numVal)"


def test_names_at_the_ends_of_lines_are_told_apart(service: Service, open_page: WatchedPages) -> None:
    client = service.processes.client
    names = ["dropout-tanh, with dropout", "dropout-tanh, none"]
    ids = [client.post("/runs", json={"name": name, **QUICK}).json()["id"] for name in names]
    for run_id in ids:
        assert service.processes.finish(run_id)["status"] == "succeeded"
    page, _ = open_page(f"{service.url}/#/compare?run={ids[0]}&run={ids[1]}")
    labels = page.locator(".chart").first.locator("text.direct")
    expect(labels).to_have_count(2)
    assert sorted(labels.all_text_contents()) == ["dropou…, none", "dropou…ropout"]
    right = page.locator(".chart svg").first.evaluate("(svg) => svg.getBoundingClientRect().right")
    assert all(label.evaluate("(text) => text.getBoundingClientRect().right") <= right for label in labels.all())


def test_a_run_that_is_opened_before_its_first_epoch_is_recorded_shows_its_curves_then(
    service: Service, open_page: WatchedPages
) -> None:
    run_id = service.processes.submit({"name": "just begun", "training": {"epochs": 100_000, "batch_size": 1000}})
    wait_for(lambda: service.processes.get(run_id)["best"])
    page, _ = open_page(f"{service.url}/#/draw")
    empty: list[Route] = []

    def answer(route: Route) -> None:
        if empty:
            return route.continue_()
        empty.append(route)
        return route.fulfill(json={"data": [], "has_more": False, "next": None})

    page.route(f"**/runs/{run_id}/metrics?*", answer)
    page.goto(f"{service.url}/#/runs/{run_id}")
    page.wait_for_selector('html[data-ready="run"]')
    expect(page.locator(".a-acc path.series.s-val")).to_be_attached(timeout=PATIENCE_MS)  # one epoch has no extent
    assert len(empty) == 1
    expect(page.locator(".head .status").first).to_contain_text("running")
