"""What a reader's own choices do to the page: themes, forced colours, zoom, large text, and names of any kind."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.web.conftest import QUICK, VIEWS, Service, WatchedPages

pytestmark = pytest.mark.xdist_group("web")

LIGHT, DARK = "rgb(250, 250, 248)", "rgb(14, 15, 17)"
NAMES = ("مصنف الأرقام", "🔢 digits 🧪", "a" * 200, "<b>bold</b> & 'quoted'")


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
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => (window.first = getComputedStyle(document.body).backgroundColor))"
    )
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("window.first") == DARK, "before anything is drawn"
    assert background(page) == DARK


@pytest.mark.parametrize("view", VIEWS)
def test_forced_colours_leave_the_view_standing(service: Service, open_page: WatchedPages, view: str) -> None:
    page, _ = open_page(service.address(view), forced_colors="active")
    expect(page.locator("#main h1").first).to_be_attached()
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")


@pytest.mark.parametrize("view", VIEWS)
def test_a_zoom_of_200_percent_and_text_of_24_pixels_scroll_nothing_sideways(
    service: Service, open_page: WatchedPages, view: str
) -> None:
    page, _ = open_page(service.address(view), viewport={"width": 640, "height": 400}, device_scale_factor=2)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate("document.documentElement.style.setProperty('font-size', '24px')")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


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
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for run_id in ids:
        assert service.processes.client.delete(f"/runs/{run_id}").is_success
