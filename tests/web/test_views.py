"""Every view in both themes: it stands, axe finds nothing, nothing scrolls sideways, and nothing is refused.

Without the service, what is shown stays; with a clock that is wrong, ages are right.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import update

from app.tables import Run, Sweep
from tests.e2e.conftest import free_port, wait_for
from tests.web.conftest import PATIENCE_MS, VIEWS, Service, Watched, WatchedPages

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


def forget_lost_connections(watched: Watched) -> None:
    """Drop the lines that a browser writes itself where a service does not answer."""
    watched.found[:] = [each for each in watched.found if "net::ERR_" not in each]


def wait_for_all_views(page: Page) -> None:
    """Wait until the modules of all views are there: they come after the first view."""
    loaded = "performance.getEntriesByType('resource').map((each) => each.name.split('/views/')[1])"
    page.wait_for_function(
        f"(names) => {{ const all = {loaded}; return names.every((each) => all.includes(each)); }}",
        arg=[f"{view}.js" for view in VIEWS],
    )


def shown_runs(page: Page) -> list[str | None]:
    return [row.get_attribute("data-id") for row in page.locator("#main tr[data-id]").all()]


def test_without_the_service_what_is_shown_stays_and_then_catches_up(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    api = processes.start_api()
    page, watched = open_page(f"{filled_service.url}/#/runs")
    wait_for_all_views(page)
    before = shown_runs(page)
    assert {filled_service.run_id, filled_service.other_id} <= set(before)
    api.terminate()
    api.wait(60)
    lost = page.locator(".banner", has_text="Not connected.")
    expect(lost).to_be_visible()
    assert shown_runs(page) == before
    page.locator(".nav a", has_text="Models").click()
    expect(page.locator("#main")).to_contain_text("The service does not answer")
    page.locator(".nav a", has_text="Runs").click()
    port = str(free_port())  # another process with the same database goes on meanwhile
    processes.start("app.cli", "api", "--port", port)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_for(lambda: client.get("/health/live").is_success)
        missed = client.post("/runs", json={"name": "submitted meanwhile"}).json()["id"]
    processes.start_api()
    expect(lost).to_have_count(0, timeout=PATIENCE_MS)
    expect(page.locator(f'tr[data-id="{missed}"]')).to_be_visible()  # by itself: nothing is clicked
    assert shown_runs(page) == [missed, *before]
    expect(page.locator(".training")).to_contain_text("1 queued")
    forget_lost_connections(watched)


def test_a_browser_that_is_offline_keeps_its_rows_and_follows_again(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    processes.start_api()
    page, watched = open_page(f"{filled_service.url}/#/runs")
    wait_for_all_views(page)
    before = shown_runs(page)
    page.context.set_offline(True)
    page.locator(".nav a", has_text="Models").click()
    expect(page.locator("#main")).to_contain_text("The service does not answer")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".heroname")).to_be_visible()
    page.locator(".nav a", has_text="Runs").click()
    expect(page.locator(f'tr[data-id="{before[0]}"]')).to_be_visible()
    missed = processes.submit({"name": "after the gap"})
    expect(page.locator(f'tr[data-id="{missed}"]')).to_be_visible()
    assert shown_runs(page) == [missed, *before]
    expect(page.locator(".banner", has_text="Not connected.")).to_have_count(0)
    forget_lost_connections(watched)


@pytest.mark.parametrize("hours", [-1, 1])
def test_ages_are_right_although_the_clocks_are_an_hour_apart(
    filled_service: Service, open_page: WatchedPages, hours: int
) -> None:
    processes = filled_service.processes
    with processes.database.writing() as session:
        then = datetime.now(UTC) - timedelta(hours=2, minutes=20)
        session.execute(update(Run).where(Run.id == filled_service.other_id).values(created_at=then))
    processes.start_api()
    new = processes.submit({"name": "new"})
    page, _ = open_page(f"{filled_service.url}/#/models")
    page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
    page.goto("about:blank")
    page.goto(f"{filled_service.url}/#/runs")
    assert abs(page.evaluate("Date.now()") / 1000 - datetime.now(UTC).timestamp()) > 3000
    expect(page.locator(f'tr[data-id="{new}"]')).to_contain_text("just now")
    expect(page.locator(f'tr[data-id="{filled_service.other_id}"]')).to_contain_text("2\u202fh ago")


LONG = {"first model": "W" * 150, "narrow": "M" * 150}
# What ends beyond the window and scrolls nowhere of its own.
BEYOND = """() => [...document.querySelectorAll("main *, .bar *")].filter((each) => {
  const box = each.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1 || each.closest("svg, .sr")) return false;
  for (let at = each.parentElement; at; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== "visible") return false;
  return true;
}).slice(0, 5).map((each) => `${each.tagName} ${each.className}`)"""


def test_names_without_a_space_make_nothing_wider_than_the_window(
    filled_service: Service, open_page: WatchedPages
) -> None:
    with filled_service.processes.database.writing() as session:
        for name, long in LONG.items():
            session.execute(update(Run).where(Run.name == name).values(name=long, tags={long[:40]: long[:60]}))
        session.execute(update(Sweep).values(name="M" * 150))
    filled_service.processes.start_api()
    client = filled_service.processes.client
    for run_id in (filled_service.other_id, filled_service.run_id):
        assert client.put("/models/champion", json={"run_id": run_id}).is_success
    page, _ = open_page(f"{filled_service.url}/#/draw")
    found: dict[tuple[str, int], list[str]] = {}
    for view in VIEWS:
        page.goto("about:blank")
        page.goto(filled_service.address(view))
        page.wait_for_selector("html[data-ready]")
        for width in (1280, 320):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(100)
            if page.evaluate("document.documentElement.scrollWidth - innerWidth") > 0:
                found[view, width] = page.evaluate(BEYOND)
        if view == "runs":
            ends = page.locator("td.num .acc").evaluate_all(
                "(a) => a.map((each) => each.getBoundingClientRect().right)"
            )
            assert max(ends) < 310, "accuracies are in sight"
        if view == "models":
            names = page.locator(".timeline .who").evaluate_all("(all) => all.map((each) => each.clientWidth)")
            assert min(names) > 80, "names of the history can be told apart"
        if view == "compare":
            page.set_viewport_size({"width": 1280, "height": 800})
            assert page.evaluate("document.querySelector('.plainwrap').scrollWidth") < 700, "it can be read"
    assert found == {}
