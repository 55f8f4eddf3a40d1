"""How the page is reached: by keys, by a thumb, by links; on every width."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.web.conftest import VIEWS, Service, WatchedPages, answered, frames, shown_pixels
from tests.web.test_views import RULES

WIDTHS = (320, 390, 600, 768, 900, 1024, 1280, 1600, 1920)
THUMB = 44  # pixels of a control, in both directions
PLACES = (("t", "Train"), ("r", "Runs"), ("s", "Sweeps"), ("m", "Models"), ("d", "Draw"))
NUM_STATES = 20  # of each view
VIEWS_OF_A_PAGE = 4  # a page may change its address 200 times in 10 s, and each state is written twice
SEED = 18
TEXTS = ("a", "two words", "ä ö ü", "مصنف", "🔢", "50 %", "a&b=c", "#/runs?x", "+", "1e-3", "<b>", "24-24", "'", "?")
# What stands in the address of each view: page.md, "Where things are".
KEYS: dict[str, tuple[str, ...]] = {
    "draw": ("x", "show", "with"),
    "train": ("preset", "from", "model.hidden_sizes", "training.optimizer.learning_rate", "run", "ghost", "at"),
    "runs": ("status", "q", "kind", "tag", "sweep", "sort", "select", "trials"),
    "run": ("cell", "scale", "layer", "role", "code"),
    "compare": ("run", "pair", "log"),
    "sweeps": ("new", "from"),
    "sweep": ("view", "x", "y", "against", "keep", "point"),
    "models": ("against", "trials"),
    "data": ("split", "label", "after"),
    "states": ("any",),
}
REPEATED = ("select", "run", "keep", "tag")
ROUND_TRIPS = """async (states) => {
  const { link, read, setState } = await import("/web/js/address.js");
  const plain = ({ place, rest, state }) => ({ place, rest, state: [...state] });
  return states.map(([path, state]) => {
    history.replaceState(null, "", link(path, state));
    const linked = plain(read());
    history.replaceState(null, "", `#/${path}?gone=1`);
    setState({ gone: null, ...state });
    return [linked, plain(read())];
  });
}"""
# Controls that are seen and lie in no text: a link inside a sentence is as high as its line. The cells of a confusion
# matrix are ten side by side; arrow keys and the chips above the gallery choose them too.
CONTROLS = """() => Array.from(document.querySelectorAll(
    "button, select, textarea, summary, a.btn, .nav a, input:not([type=file], [type=checkbox], [type=radio])"))
  .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.closest("[aria-hidden=true], .matrix"))
  .map((each) => [each, (each.closest("label.check") ?? each).getBoundingClientRect()])
  .filter(([each, box]) => box.width > 1)
  .map(([each, box]) => [
    (each.getAttribute("aria-label") || each.textContent || each.tagName).trim().slice(0, 40),
    `${each.parentElement.className} > ${each.className}`, box.width, box.height])"""
REACHABLE = """() => {
  const selector = "a[href], button, input, select, textarea, summary, [tabindex]";
  window.reachable = Array.from(document.querySelectorAll(selector)).filter((each) =>
    each.tabIndex >= 0 && !each.disabled && each.checkVisibility({ visibilityProperty: true }));
  window.reached = new Set();
  addEventListener("focusin", (event) => window.reached.add(event.target));
  return window.reachable.length;
}"""
MISSED = """() => window.reachable.filter((each) => each.isConnected && !each.disabled && !window.reached.has(each))
  .filter((each) => !(each.type === "radio" && window.reachable.some((other) => other.name === each.name
    && window.reached.has(other))))
  .map((each) => each.outerHTML.slice(0, 120))"""


def random_state(random: Random, keys: tuple[str, ...]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for key in random.sample(keys, random.randint(0, len(keys))):
        if key == "x":
            state[key] = "".join(random.choice("0123456789abcdefg") for _ in range(random.randint(1, 64)))
        elif key in REPEATED and random.random() < 0.5:
            state[key] = [random.choice(TEXTS) for _ in range(random.randint(1, 12))]
        else:
            state[key] = random.choice((*TEXTS, str(random.randint(0, 10**9)), "", None))
    return state


def entries(state: dict[str, Any]) -> list[list[str]]:
    """Return a state's keys and values as the address holds them: nothing is left of what is empty."""
    lists = {key: value if isinstance(value, list) else [value] for key, value in state.items()}
    return [[key, each] for key, values in lists.items() for each in values if each not in (None, "")]


def test_200_random_states_of_all_views_come_back_from_the_address(service: Service, open_page: WatchedPages) -> None:
    random = Random(SEED)
    paths = {"run": "runs/01a2-b", "sweep": "sweeps/01a2-c"}
    count = 0
    for number, view in enumerate(VIEWS):
        if number % VIEWS_OF_A_PAGE == 0:
            page, _ = open_page(service.address("states"))
        path = paths.get(view, view)
        states = [random_state(random, KEYS[view]) for _ in range(NUM_STATES)]
        found = page.evaluate(ROUND_TRIPS, [[path, state] for state in states])
        place, *rest = path.split("/")
        for state, (linked, changed) in zip(states, found, strict=True):
            wanted = {"place": place, "rest": rest, "state": entries(state)}
            assert linked == wanted, json.dumps(state)
            assert changed == wanted, json.dumps(state)
            count += 1
    assert count == 200


def test_random_digits_come_back_from_their_links(service: Service, open_page: WatchedPages) -> None:
    random = Random(SEED)
    page, _ = open_page(service.address("draw"))
    for _ in range(10):
        pixels = [random.choice((0, 0, random.randint(1, 16))) for _ in range(64)]
        pixels[random.randrange(64)] = 16
        packed = "".join("0123456789abcdefg"[pixel] for pixel in pixels).rstrip("0")
        page.evaluate("(link) => (location.hash = link)", f"#/draw?x={packed}")
        page.wait_for_function(
            "(pixels) => String(document.querySelector('.seen canvas')?.values) === pixels",
            arg=",".join(map(str, pixels)),
        )
        answered(page)
        assert shown_pixels(page) == pixels
        assert page.url.endswith(f"#/draw?x={packed}")


def test_what_a_view_is_given_by_its_address_stays_there(service: Service, open_page: WatchedPages) -> None:
    addresses = (
        f"draw?x=0g0g&show=why&with={service.other_id}",
        "runs?status=succeeded&q=model&sort=-val_accuracy&trials=1",
        f"runs/{service.run_id}?scale=all&cell=8%2C1&code=python",
        f"compare?run={service.run_id}&run={service.other_id}&pair={service.run_id},{service.other_id}",
        f"sweeps/{service.sweep_id}?view=parallel&against=parameters",
        f"models?against={service.other_id}&trials=1",
        "data?split=val&label=3",
        f"train?preset=dropout-tanh&run={service.other_id}",
    )
    for address in addresses:
        page, _ = open_page(f"{service.url}/#/{address}")
        assert in_order(page.url.split("#/")[1]) == in_order(address)
        page.context.close()


def in_order(address: str) -> tuple[str, list[tuple[str, str]]]:
    path, _, query = address.partition("?")
    return path, sorted(parse_qsl(query))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_keys_go_places_search_and_list_themselves(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    for key, place in PLACES:
        press(page, "g", key)
        expect(page).to_have_title(f"{place} · digitlab")
        assert page.locator(".nav [aria-current]").inner_text() == place
        expect(page.locator("#main")).to_be_focused()
    press(page, "t")
    expect(page).to_have_title("Draw · digitlab")
    press(page, "?")
    dialogue = page.get_by_role("dialog", name="Keys")
    expect(dialogue).to_be_visible()
    for _, place in PLACES:
        expect(dialogue).to_contain_text(place)
    assert [each["id"] for each in Axe().run(page, options=RULES).response["violations"]] == []
    press(page, "g", "t", "?", "/")
    expect(page.locator("dialog")).to_have_count(1)
    expect(page).to_have_title("Draw · digitlab")
    press(page, "Escape")
    expect(page.locator("dialog")).to_have_count(0)
    press(page, "/")
    expect(page).to_have_title("Runs · digitlab")
    search = page.locator("#main input[type=search]")
    expect(search).to_be_focused()
    press(page, "g", "d", "/", "?", "3")
    expect(search).to_have_value("gd/?3")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page).to_have_title("Runs · digitlab")


def test_escape_closes_the_list_of_keys_and_leaves_the_drawing(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/draw?x=0g0g")
    answered(page)
    pixels = shown_pixels(page)
    press(page, "?", "7", "Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert shown_pixels(page) == pixels
    expect(page.locator(".toast")).to_have_count(0)


@pytest.mark.parametrize("view", VIEWS)
def test_every_control_is_large_enough_for_a_thumb(service: Service, open_page: WatchedPages, view: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page, _ = open_page(service.address(view), **phone)
    assert page.evaluate("matchMedia('(pointer: coarse)').matches")
    small: dict[int, list[Any]] = {}
    for width in (320, 390, 768):
        page.set_viewport_size({"width": width, "height": 844})
        controls = page.evaluate(CONTROLS)
        assert len(controls) >= 5, "the tab bar alone has five"
        small[width] = [each for each in controls if each[2] < THUMB - 0.5 or each[3] < THUMB - 0.5]
    assert small == {320: [], 390: [], 768: []}


@pytest.mark.parametrize("view", VIEWS)
def test_every_control_is_reached_by_tab(service: Service, open_page: WatchedPages, view: str) -> None:
    page, _ = open_page(service.address(view))
    number = page.evaluate(REACHABLE)
    assert number > 6
    for count in range(2 * number + 100):
        page.keyboard.press("Tab")
        if count % 25 == 24 and page.evaluate(MISSED) == []:
            return
    assert page.evaluate(MISSED) == []


def test_draw_with_an_answer_stands_on_every_width(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{service.url}/#/draw?x=00gggg")
    answered(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        frames(page)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        for selector in (".pad", ".answer-digit", ".digits button", ".seen", ".draw-opinions", ".draw-recent"):
            box = page.locator(selector).last.bounding_box()
            assert box is not None
            assert box["x"] >= 0, (width, selector)
            assert box["x"] + box["width"] <= width, (width, selector)


def test_a_phone_shows_pad_answer_and_correction_without_scrolling(service: Service, open_page: WatchedPages) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page, _ = open_page(f"{service.url}/#/draw?x=00gggg", **phone)
    answered(page)
    tabs = page.locator(".nav").bounding_box()
    last = page.get_by_role("button", name="That was a 9").bounding_box()
    assert tabs is not None
    assert last is not None
    assert last["y"] + last["height"] <= tabs["y"]
