"""Every view in both themes: it stands, axe finds nothing, nothing scrolls sideways, and nothing is refused."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.web.conftest import VIEWS, Service, WatchedPages

pytestmark = pytest.mark.xdist_group("web")  # all tests run in one process, which shares one service

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}}
WIDTHS = (320, 390, 600, 768, 900, 1024, 1280, 1600, 1920)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(service: Service, open_page: WatchedPages, view: str, theme: str) -> None:
    page, _ = open_page(service.address(view), color_scheme=theme, reduced_motion="reduce")
    page.wait_for_load_state("load")
    page.wait_for_timeout(400)
    response = Axe().run(page, options=RULES).response
    found = response["violations"]
    assert len(response["passes"]) > 10, "axe has looked at the view"
    assert [(each["id"], [node["html"][:160] for node in each["nodes"][:3]]) for each in found] == []


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_scrolls_sideways(service: Service, open_page: WatchedPages, view: str) -> None:
    page, _ = open_page(service.address(view))
    too_wide = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(60)
        excess = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if excess > 0:
            too_wide[width] = excess
    assert too_wide == {}


def test_the_view_is_named_and_gets_the_focus(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    for key, place in (("r", "Runs"), ("s", "Sweeps"), ("m", "Models"), ("t", "Train"), ("d", "Draw")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page).to_have_title(f"{place} · digitlab")
        assert page.locator(".nav [aria-current]").inner_text() == place
        expect(page.locator("#main")).to_be_focused()
