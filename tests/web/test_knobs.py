"""Knobs of Train: what fields read and show, names, numbers with units; addresses of what is not there."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import Service, WatchedPages, answered

# What is typed, and what it is in a field for whole numbers and in one for any. A text is refused by the service.
TYPED: dict[str, tuple[Any, Any]] = {
    "12": (12, 12),
    " 0.05 ": (0.05, 0.05),
    "0,05": (0.05, 0.05),
    "1e3": (1000, 1000),
    "1e\u22125": (1e-5, 1e-5),
    "\u22123": (-3, -3),
    ".5": (0.5, 0.5),
    "1,000": (1000, "1,000"),
    "1,100": (1100, "1,100"),
    "12,000,000": (12_000_000, "12,000,000"),
    "1 000": (1000, 1000),
    "1\u202f000": (1000, 1000),
    "1.000": ("1.000", 1),
    "0,001": (0.001, 0.001),
    "1.000,5": ("1.000,5", "1.000,5"),
    "0x10": ("0x10", "0x10"),
    "1e999": ("1e999", "1e999"),
    "9007199254740993": ("9007199254740993", "9007199254740993"),
    "": ("", ""),
    "many": ("many", "many"),
}
READ = """async (typed) => {
  const { readNumber } = await import("/web/js/train/knobs.js");
  return typed.map((text) => [readNumber(text, true), readNumber(text, false)]);
}"""
WITH_UNITS = """async () => {
  const { bytes, seconds, signed } = await import("/web/js/format.js");
  return [[0.9, 9.96, 59.4, 59.6, 119.6, 3599.6, 7199, 7290].map(seconds), [1023, 1048575, 1048576].map(bytes),
    [-0.04, -0.06, 0, 1].map((n) => signed(n))];
}"""
NAME = """async (start) => {
  const { nameOf } = await import("/web/js/train/document.js");
  return nameOf(start, new Map([["seed", 5]]), (path, value) => `${path} ${value}`);
}"""
# Of each second opinion: how wide its name is and how wide it would be; by how much its row is too wide.
WIDTHS_OF_OPINIONS = """() => [
  Array.from(document.querySelectorAll(".opinion .who"), (each) => [each.clientWidth, each.scrollWidth]),
  Array.from(document.querySelectorAll(".opinion"), (each) => each.scrollWidth - each.clientWidth)]"""
AWKWARD = (
    "training.batch_size=1000&training.optimizer.learning_rate=0.0123456&training.optimizer.weight_decay=0.00001"
    "&training.epochs=1100&seed=1234567"
)


def type_into(page: Page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.keyboard.press("Tab")


def test_numbers_are_read_as_they_are_typed_and_written_with_whole_units(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("states"))
    assert dict(zip(TYPED, map(tuple, page.evaluate(READ, list(TYPED))), strict=True)) == TYPED
    times, sizes, gains = page.evaluate(WITH_UNITS)
    plain = [text.replace("\u202f", " ") for text in (*times, *sizes)]
    assert plain[:8] == ["900 ms", "10 s", "59 s", "1 min 0 s", "2 min 0 s", "1 h 0 min", "2 h 0 min", "2 h 2 min"]
    assert plain[8:] == ["1023 B", "1.0 MB", "1.0 MB"]
    assert gains == ["+0.0", "\u22120.1", "+0.0", "+1.0"]
    for start in ("a" + "😀" * 198, "a" + "😀" * 250):
        name = page.evaluate(NAME, start)
        assert name == (start + ", seed 5")[:200]
        assert service.processes.client.post("/runs?dry_run=true", json={"name": name}).is_success


def test_a_fields_text_is_what_the_field_reads_back(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/train?preset=defaults&{AWKWARD}", (422, "dry_run"))
    expect(page.locator(".plan")).to_contain_text("parameters")
    page.locator("details.more summary").click()
    before = page.url
    assert page.get_by_label("Batch size, exactly").input_value() == "1000"
    assert page.get_by_label("Weight decay, exactly").input_value() == "0.00001"
    for field in page.locator(".slider .input:visible").all():
        text = field.input_value()
        field.fill("")
        field.press_sequentially(text)
        field.press("Tab")
    assert sorted(page.url.split("&")) == sorted(before.split("&"))
    type_into(page, "Epochs, exactly", "1,000")
    type_into(page, "Batch size, exactly", "1,100")
    type_into(page, "Weight decay, exactly", "2e\u22125")
    type_into(page, "Width of hidden layer 1", "1,000")
    for part in ("training.epochs=1000", "batch_size=1100", "weight_decay=0.00002", "hidden_sizes=1000-"):
        assert part in page.url
    expect(page.locator(".start")).to_be_enabled()


@pytest.mark.parametrize(
    ("label", "typed", "words"),
    [
        ("Learning rate, exactly", "1,000", 'valid number; got "1,000"'),
        ("Epochs, exactly", "1.000", 'valid integer; got "1.000"'),
        ("Width of hidden layer 1", "many", 'valid integer; got "many"'),
        ("Warped copies of each image, exactly", "2.5", "valid integer; got 2.5"),
    ],
)
def test_what_may_be_two_numbers_or_none_is_refused_at_its_field(
    service: Service, open_page: WatchedPages, label: str, typed: str, words: str
) -> None:
    page, _ = open_page(f"{service.url}/#/train?preset=defaults", (422, "dry_run"))
    expect(page.locator(".plan")).to_contain_text("parameters")
    widths = page.locator(".net .size").count()
    type_into(page, label, typed)
    field = page.locator(".field", has=page.get_by_label(label))
    expect(field.locator(".error")).to_contain_text(words)
    expect(page.get_by_label(label)).to_have_value(typed)
    expect(page.locator(".start")).to_be_disabled()
    assert page.locator(".net .size").count() == widths, "no layer is taken out"


def test_what_an_address_asks_for_and_train_cannot_show_is_said(service: Service, open_page: WatchedPages) -> None:
    client = service.processes.client
    forest = service.processes.submit({"name": "woods", "model": {"kind": "random_forest"}})
    service.processes.finish(forest)
    page, _ = open_page(f"{service.url}/#/runs/{forest}", (404, "gone"))
    expect(page.get_by_role("button", name="ONNX")).to_be_visible()
    expect(page.get_by_text("Run again with …")).to_have_count(0)
    page.goto(f"{service.url}/#/runs/{service.run_id}")
    expect(page.get_by_text("Run again with …")).to_be_visible()
    said = page.locator(".knobs [role=alert]:visible")
    for state, words in (
        (f"from={forest}", "woods is a forest"),
        ("from=gone", "starts from is gone"),
        ("preset=random-forest", "No preset of a network"),
        ("run=gone", "shows is gone"),
        ("ghost=gone", "lays behind it is gone"),
    ):
        page.goto(f"{service.url}/#/train?{state}")
        expect(said).to_contain_text(words)
    page.get_by_label("Start from").select_option("defaults")
    expect(said).to_have_count(0)
    page.goto(f"{service.url}/#/train?preset=defaults&__proto__.spoilt=1&constructor.name=1")
    expect(page.locator(".plan")).to_contain_text("parameters")
    assert page.evaluate("({}).spoilt") is None
    assert client.delete(f"/runs/{forest}").is_success


def test_a_run_that_is_deleted_elsewhere_is_said_to_be(service: Service, open_page: WatchedPages) -> None:
    client = service.processes.client
    behind, shown = (
        service.processes.submit({"name": name, "model": {"hidden_sizes": [4]}, "training": {"epochs": 2}})
        for name in ("behind", "shown")
    )
    for run_id in (behind, shown):
        service.processes.finish(run_id)
    page, _ = open_page(f"{service.url}/#/train?run={shown}&ghost={behind}")
    expect(page.locator(".versus")).to_contain_text("the same settings")
    assert client.delete(f"/runs/{behind}").is_success
    expect(page.locator(".against")).to_contain_text("Train once more")
    assert "ghost=" not in page.url
    assert client.delete(f"/runs/{shown}").is_success
    expect(page.locator(".live")).to_contain_text("deleted meanwhile: this cannot be undone")
    expect(page.locator(".live h1")).to_have_text("shown")
    assert page.locator(".live h1 a[href]").count() == 0


@pytest.mark.parametrize(
    ("fragment", "view"),
    [("constructor", "draw"), ("toString", "draw"), ("run", "runs"), ("sweep", "sweeps"), ("__proto__/x", "draw")],
)
def test_an_address_that_names_no_view_shows_one(
    service: Service, open_page: WatchedPages, fragment: str, view: str
) -> None:
    page, _ = open_page(f"{service.url}/#/{fragment}", is_ready=False)
    page.wait_for_selector(f"html[data-ready={view}]")
    expect(page.locator("#main h1").first).to_be_attached()


def test_second_opinions_have_names_on_every_width(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/draw?x=00gggg&with={service.run_id},{service.other_id}")
    answered(page)
    expect(page.locator(".opinion .who")).to_have_count(2)
    for width in (320, 390, 761, 900, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        names, rows = page.evaluate(WIDTHS_OF_OPINIONS)  # at once: each answer makes the rows anew
        assert all(seen >= whole > 20 for seen, whole in names), (width, names)
        assert len(names) == 2
        assert rows == [0, 0], width
