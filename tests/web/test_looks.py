"""What a reader's own choices do to the page: themes, forced colours, zoom, large text, and names of any kind."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.web.conftest import QUICK, VIEWS, Service, WatchedPages

LIGHT, DARK = "rgb(250, 250, 248)", "rgb(14, 15, 17)"
NAMES = ("مصنف الأرقام", "🔢 digits 🧪", "a" * 200, "<b>bold</b> & 'quoted'")


# 8×8 pictures of several values that are of one colour.
BLOTS = """[...document.querySelectorAll("canvas.tile")].filter((canvas) => new Set(canvas.values).size > 1 &&
    new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, 8, 8).data.buffer)).size === 1).length"""
VANISHED = """[...document.querySelectorAll(".rail > i, .track > i")].map((bar) => [bar, bar.parentElement])
    .filter(([bar, rail]) => getComputedStyle(bar).backgroundColor === getComputedStyle(rail).backgroundColor)
    .map(([bar]) => bar.parentElement.outerHTML)"""
UNMARKED = """[...document.querySelectorAll('#main [aria-pressed="true"], #main [aria-checked="true"], [aria-current]')]
    .filter((each) => each.tagName !== "INPUT" && getComputedStyle(each).outlineStyle === "none")
    .map((each) => each.outerHTML)"""
# Elements with text of their own whose lines are closer than the text is high.
CRAMPED = """[...document.querySelectorAll("body *")].filter((each) =>
    [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((each) => {
        const {fontSize, lineHeight} = getComputedStyle(each);
        return parseFloat(lineHeight) < parseFloat(fontSize) ? `${each.className} ${fontSize} ${lineHeight}` : null;
    }).filter(Boolean)"""


def background(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return found


def test_the_systems_theme_is_taken_and_a_chosen_one_is_kept(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"), color_scheme="dark")
    assert background(page) == DARK
    page.emulate_media(color_scheme="light")
    assert background(page) == LIGHT
    page.get_by_role("button", name="Light or dark").click()
    assert background(page) == DARK
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert background(page) == DARK


def test_on_paper_a_view_is_light_and_without_its_controls(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("run"), color_scheme="dark")
    page.get_by_role("button", name="Light or dark").click()
    page.get_by_role("button", name="Light or dark").click()
    assert background(page) == DARK
    page.emulate_media(media="print")
    assert background(page) == LIGHT
    expect(page.locator("#main .btn:visible, #bar:visible")).to_have_count(0)
    expect(page.locator("h1")).to_be_visible()
    assert page.pdf().startswith(b"%PDF")


def test_a_chosen_theme_is_there_at_the_first_paint(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"), color_scheme="light")
    page.get_by_role("button", name="Light or dark").click()
    held: list[Route] = []
    page.route(
        "**/web/js/main.js", lambda route: held.append(route)
    )  # without it nothing but the style sheets' own is painted
    page.reload(wait_until="commit")
    page.wait_for_function("() => performance.getEntriesByName('first-paint').length")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    assert picture.size == (1280, 800)
    assert np.asarray(picture).max() < 64, "nothing that is light"
    held[0].continue_()
    page.wait_for_selector("html[data-ready]")
    assert background(page) == DARK


@pytest.mark.parametrize("view", VIEWS)
def test_forced_colours_leave_the_view_standing(service: Service, open_page: WatchedPages, view: str) -> None:
    page, _ = open_page(service.address(view), forced_colors="active")
    expect(page.locator("#main h1").first).to_be_attached()
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")
    page.wait_for_timeout(300)  # pictures come after the view
    assert page.evaluate(BLOTS) == 0, "8×8 pictures show what they hold"
    assert page.evaluate(VANISHED) == [], "bars are seen"
    assert page.evaluate(UNMARKED) == [], "what is chosen is seen"


@pytest.mark.parametrize("view", VIEWS)
def test_a_zoom_of_200_percent_and_text_of_24_pixels_scroll_nothing_sideways(
    service: Service, open_page: WatchedPages, view: str
) -> None:
    page, _ = open_page(service.address(view), viewport={"width": 640, "height": 400}, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    fonts = {"fontSizes": {"standard": 24, "fixed": 20}}
    page.context.new_cdp_session(page).send("Page.setFontSizes", fonts)  # as a reader chooses in the browser's settings
    page.wait_for_function("() => getComputedStyle(document.documentElement).fontSize === '24px'")
    page.wait_for_timeout(100)
    assert page.evaluate("getComputedStyle(document.body).fontSize") == "21px", "14 at 16"
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(CRAMPED) == [], "lines do not overlap"


def test_names_of_any_kind_are_shown_as_they_are(service: Service, open_page: WatchedPages) -> None:
    ids = [service.processes.submit({"name": name, **QUICK}) for name in NAMES]
    for run_id in ids:
        service.processes.finish(run_id)
    page, _ = open_page(service.address("runs"))
    for run_id, name in zip(ids, NAMES, strict=True):
        expect(page.locator(f'tr[data-id="{run_id}"] .runname a')).to_have_text(name)
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(60)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for run_id, name in zip(ids, NAMES, strict=True):
        page.goto(f"{service.url}/#/runs/{run_id}")
        expect(page).to_have_title(re.compile(f"^{re.escape(name)} · digitlab$"))
        assert page.locator("h1 [dir=auto]").inner_text() == name
        is_arabic = "\u0600" <= name[0] <= "\u06ff"
        direction = page.locator("h1 [dir=auto]").evaluate("(element) => getComputedStyle(element).direction")
        assert direction == ("rtl" if is_arabic else "ltr")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for run_id in ids:
        assert service.processes.client.delete(f"/runs/{run_id}").is_success
