"""A sweep's page: its sentence is the report's, its pictures light together, and a brush keeps what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import wait_for
from tests.web.conftest import Service, WatchedPages, go

RATE, HIDDEN = "training.optimizer.learning_rate", "model.hidden_sizes"
SHORT = {"model": {"hidden_sizes": [8]}, "training": {"epochs": 4}}
HOPELESS = {"training": {"epochs": 5, "optimizer": {"weight_decay": 10.0}}}
SWEEPS: dict[str, dict[str, Any]] = {
    "crossed": {"base": SHORT, "parameters": {RATE: [0.01, 0.1, 0.5]}, "cross_validation": {"folds": 3}},
    "halved": {
        "base": {**SHORT, "training": {"epochs": 9}},
        "parameters": {RATE: [0.001, 0.01, 0.1], HIDDEN: [[4], [8], [16]]},
        "stopping": {"rungs": 2, "reduction": 3},
    },
    "of two": {"base": SHORT, "parameters": {RATE: [0.01, 0.1]}},
    "hopeless": {"base": HOPELESS, "parameters": {RATE: [50.0, 100.0]}},
    "drawn": {
        "base": SHORT,
        "search": {"kind": "random", "trials": 32},
        "parameters": {RATE: {"low": 0.001, "high": 1.0, "log": True}, "model.activation": ["tanh", "relu"]},
    },
}


@pytest.fixture(scope="module")
def ids(service: Service) -> Iterator[dict[str, str]]:
    """Sweeps of all kinds, trained."""
    client = service.processes.client
    found = {}
    for name, document in SWEEPS.items():
        answer = client.post("/sweeps", json={"name": name, **document})
        assert answer.status_code == 202, answer.text
        found[name] = answer.json()["id"]
    for sweep_id in found.values():
        wait_for(partial(is_over, service, sweep_id))
    yield found
    for sweep_id in found.values():
        assert client.delete(f"/sweeps/{sweep_id}").is_success


def is_over(service: Service, sweep_id: str) -> bool:
    sweep = service.processes.client.get(f"/sweeps/{sweep_id}").json()
    has_final = sweep["cross_validation"] is None or sweep["final_run_id"] is not None
    return has_final and sweep["status"] in ("succeeded", "failed", "cancelled")


def report_of(service: Service, sweep_id: str) -> dict[str, Any]:
    report: dict[str, Any] = service.processes.client.get(f"/sweeps/{sweep_id}/report").json()
    return report


@pytest.mark.parametrize("name", [*SWEEPS, "small"])
def test_the_sentence_is_the_reports_answer(
    service: Service, ids: dict[str, str], open_page: WatchedPages, name: str
) -> None:
    sweep_id = (ids | {"small": service.sweep_id})[name]
    page, _ = open_page(f"{service.url}/#/sweeps/{sweep_id}")
    report = report_of(service, sweep_id)
    expect(page.locator(".empty strong" if name == "hopeless" else ".sentence")).to_have_text(report["answer"])
    sweep = service.processes.client.get(f"/sweeps/{sweep_id}").json()
    assert page.locator(".head .status").inner_text().startswith(f"{sweep['progress']['trials']:,} trials")
    if name == "hopeless":
        expect(page.locator(".head .chip.bad")).to_have_text("2 failed")
        expect(page.locator("#main")).to_contain_text("0 queued, 0 running, 2 failed")
        return
    results = [point for point in report["points"] if point["mean_val_accuracy"] is not None]
    expect(page.locator(".s-cost .pt")).to_have_count(
        sum(point["mean_epochs_to_plateau"] is not None for point in results)
    )
    expect(page.locator(".s-table .note")).to_have_text(f"{len(report['points'])}, best first")
    expect(page.locator(".s-table tbody .acc").first).to_have_text(
        re.compile(f"^{results[0]['mean_val_accuracy'] * 100:.1f}.%$")
    )
    for place, effect in enumerate(report["effects"]):
        figure = page.locator(".s-effects figure").nth(place)
        expect(figure.locator(".pt")).to_have_count(len(results))
        expect(figure.locator(".dot")).to_have_count(len(effect["values"]))
    if name == "crossed":
        expect(page.get_by_role("link", name="final run")).to_have_attribute("href", f"#/runs/{sweep['final_run_id']}")
        expect(page.locator(".podium").first).to_contain_text("chosen")


def lit(page: Page) -> dict[str, str | None]:
    """Return which point each picture lights."""
    places = {"cell": ".heats", "dot": ".s-cost", "effect": ".s-effects", "row": ".s-table", "podium": ".podiums"}
    found: dict[str, str | None] = {}
    for name, place in places.items():
        points = page.locator(f"{place} .lit").evaluate_all("(all) => all.map((each) => each.dataset.point)")
        assert len(set(points)) <= 1, name
        found[name] = points[0] if points else None
    return found | {"strand": page.locator(".strands").get_attribute("data-lit")}


def is_drawn(canvas: Locator) -> bool:
    """Return whether something is drawn on a canvas."""
    return bool(
        canvas.evaluate("(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((each) => each > 0)")
    )


PLACES = (".heats .cell", ".s-cost .pt", ".s-table tr", ".podium", ".s-effects .pt")


def test_a_hover_lights_the_same_point_in_all_six_pictures(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("sweep"))
    report = report_of(service, service.sweep_id)
    best = str(report["noise"]["best_point"])
    worst = next(str(each["point_number"]) for each in reversed(report["points"]) if str(each["point_number"]) != best)
    for place in PLACES:
        page.locator(f'{place}[data-point="{best}"]').first.hover(force=True)
        expect(page.locator(f'.s-table tr.lit[data-point="{best}"]')).to_have_count(1)
        assert lit(page) == dict.fromkeys(("cell", "dot", "effect", "row", "podium", "strand"), best), place
        page.locator(f'.s-table tr[data-point="{worst}"]').hover()
        found = lit(page)
        assert found.pop("podium") in (None, worst)
        assert found == dict.fromkeys(("cell", "dot", "effect", "row", "strand"), worst)
    assert is_drawn(page.locator(".strands canvas").nth(1)), "the lit curve"
    page.mouse.move(2, 2)
    assert lit(page) == dict.fromkeys(("cell", "dot", "effect", "row", "podium")) | {"strand": best}, "the best stays"


def test_a_line_of_the_parallel_picture_lights_the_others(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.address('sweep')}?view=parallel")
    expect(page.locator(".strand")).to_have_count(4)
    best = str(report_of(service, service.sweep_id)["noise"]["best_point"])
    page.locator(f'.strand[data-point="{best}"]').dispatch_event("pointerenter")
    assert lit(page) == {"cell": None} | dict.fromkeys(("dot", "effect", "row", "podium", "strand"), best)
    expect(page.locator(f'.strand.lit[data-point="{best}"]')).to_have_count(1)


def test_a_brush_keeps_what_it_says(service: Service, ids: dict[str, str], open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/sweeps/{ids['drawn']}")
    points = report_of(service, ids["drawn"])["points"]
    expect(page.locator(".strand")).to_have_count(len(points))
    axis = page.locator(f'.grip[data-axis="{RATE}"]')
    box = axis.bounding_box()
    assert box is not None
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(x, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.move(x, box["y"] + box["height"] * 0.95, steps=4)
    page.mouse.up()
    found = re.search(r"keep=training\.optimizer\.learning_rate%3A([\d.e-]+)\.\.([\d.e-]+)", page.url)
    assert found is not None, page.url
    low, high = float(found[1]), float(found[2])
    kept = {str(each["point_number"]) for each in points if low <= each["parameters"][RATE] <= high}
    assert 0 < len(kept) < len(points)
    check_kept(page, kept, len(points))
    relu = page.locator('.grip[data-axis="model.activation"]')
    size = relu.bounding_box()
    assert size is not None
    names = sorted({each["parameters"]["model.activation"] for each in points})
    relu.click(position={"x": size["width"] / 2, "y": size["height"] * 0.75})  # the first of two names
    fewer = {
        str(each["point_number"])
        for each in points
        if str(each["point_number"]) in kept and each["parameters"]["model.activation"] == names[0]
    }
    check_kept(page, fewer, len(points))
    expect(page.locator(".kept")).to_contain_text(f"activation {names[0]}")
    again, _ = open_page(page.url)
    check_kept(again, fewer, len(points))
    again.get_by_role("button", name="keep all").click()
    expect(again.locator(".strand.out")).to_have_count(0)
    assert "keep=" not in again.url


def check_kept(page: Page, kept: set[str], total: int) -> None:
    expect(page.locator(".kept b")).to_have_text(f"{len(kept)} of {total} points")
    left = page.locator(".strand:not(.out)").evaluate_all("(all) => all.map((each) => each.dataset.point)")
    assert set(left) == kept
    expect(page.locator(".strand.out")).to_have_count(total - len(kept))


def test_a_sweep_of_listed_points_is_made_again_and_what_was_typed_is_there_for_those_who_go_back(
    filled_service: Service, open_page: WatchedPages
) -> None:
    filled_service.processes.start_api()
    client = filled_service.processes.client
    points = [{"seed": 1}, {"seed": 2, RATE: 0.1}]
    listed = {"name": "listed", "base": SHORT, "search": {"kind": "list"}, "points": points}
    sweep_id = client.post("/sweeps", json=listed).json()["id"]
    page, _ = open_page(f"{filled_service.url}/#/sweeps/{sweep_id}")
    page.get_by_role("link", name="Sweep again with").click()
    area = page.get_by_role("textbox", name="The sweep")
    expect(page.locator(".newsweep .plan").first).to_contain_text("2 points")
    assert json.loads(area.input_value())["points"] == points
    start = page.get_by_label("Start from")
    start.select_option("practice")
    expect(area).to_have_value(re.compile('"name": "practice"'))
    start.select_option("listed")
    assert json.loads(area.input_value())["points"] == points
    mine = json.dumps({"name": "mine", "base": SHORT, "parameters": {"seed": [1, 2, 3]}})
    go(page, f"{filled_service.url}/#/sweeps")
    page.get_by_role("button", name="New sweep").click()
    area.fill(mine)
    expect(page.locator(".newsweep .plan").first).to_contain_text("3 points")
    page.goto(f"{filled_service.url}/#/draw")
    page.wait_for_selector("html[data-ready=draw]")
    page.go_back()
    expect(area).to_have_value(mine)
    page.reload()
    page.get_by_role("button", name="Start the sweep").click()
    expect(page.locator("h1")).to_contain_text("mine")
    page.go_back()
    expect(area).to_have_value(mine)
    go(page, f"{filled_service.url}/#/sweeps")
    page.get_by_role("button", name="New sweep").click()
    expect(area).not_to_have_value(re.compile('"mine"'))
    assert json.loads(area.input_value())["name"] == start.input_value()


# Ticks of an axis from 0: of epochs, and of what is measured.
TICKS = """async () => {
  const { linear, ticks } = await import("/web/js/scales.js");
  const whole = [0, 1, 2, 3, 5, 7, 10, 12, 15, 130].map((end) => linear([0, end], [0, 1], true).ticks(5));
  return [whole, ticks(0, 10, 4), ticks(0, 1, 4)];
}"""


def test_an_axis_of_epochs_has_whole_ticks(service: Service, ids: dict[str, str], open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/sweeps/{ids['of two']}")
    labels = page.locator(".s-cost svg text[text-anchor=middle]").all_text_contents()
    assert len(labels) > 1
    assert len(labels) == len(set(labels)), "each stands once"
    whole, tens, shares = page.evaluate(TICKS)
    assert all(tick == int(tick) for ticks in whole for tick in ticks)
    assert [ticks[1] for ticks in whole[1:]] == [1, 1, 1, 1, 2, 2, 5, 5, 50]
    assert tens == [0, 2.5, 5, 7.5, 10], "of what is not counted"
    assert shares == [0, 0.25, 0.5, 0.75, 1]
