"""Keys: the dialogue, what a predict key may do, and where a key is kept."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, Request, expect

from tests.e2e.conftest import Processes
from tests.web.conftest import Service, WatchedPages

PREDICT, ADMIN, WRONG = "reader-0123456789", "writer-0123456789", "wrong-0123456789"


@pytest.fixture
def guarded(idle_service: Processes) -> Processes:
    idle_service.start_api(DIGITLAB_API_KEYS=f"predict:{PREDICT},admin:{ADMIN}", DIGITLAB_LOG_REQUESTS="all")
    return idle_service


@pytest.fixture
def guarded_views(filled_service: Service) -> Service:
    """A service with keys and models."""
    filled_service.processes.start_api(
        DIGITLAB_API_KEYS=f"predict:{PREDICT},admin:{ADMIN}", DIGITLAB_LOG_REQUESTS="all"
    )
    return filled_service


def give(page: Page, key: str | None) -> None:
    """Type a key into the dialogue; None: close it."""
    if key is None:
        page.keyboard.press("Escape")
        return
    page.get_by_role("dialog").get_by_role("textbox", name="Key").fill(key)
    page.get_by_role("button", name="Use it").click()


def changes_something(request: Request) -> bool:
    return request.method != "GET" and "dry_run" not in request.url and "/predict" not in request.url


def test_a_key_is_asked_for_once_and_kept_in_the_tab_alone(guarded: Processes, open_page: WatchedPages) -> None:
    page, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/runs", is_ready=False)
    dialogue = page.get_by_role("dialog")
    expect(dialogue).to_be_visible()
    page.get_by_role("textbox", name="Key").fill(WRONG)
    page.get_by_role("button", name="Use it").click()
    expect(dialogue).to_contain_text("does not know this key")
    page.get_by_role("textbox", name="Key").fill(PREDICT)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No runs yet")).to_be_visible()
    assert page.get_by_role("dialog").count() == 0
    page.reload()
    expect(page.get_by_text("No runs yet")).to_be_visible()
    assert page.get_by_role("dialog").count() == 0, "the tab still has it"
    assert PREDICT not in page.url
    assert PREDICT not in page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
    assert PREDICT not in guarded.log
    other, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/runs", is_ready=False)
    expect(other.get_by_role("dialog")).to_be_visible()


@pytest.mark.parametrize("view", ["train", "run", "sweeps", "sweep", "models"])
def test_with_a_predict_key_every_view_reads_and_its_buttons_say_what_they_need(
    guarded_views: Service, open_page: WatchedPages, view: str
) -> None:
    page, _ = open_page(guarded_views.address(view), is_ready=False)
    give(page, PREDICT)
    page.wait_for_selector(f"html[data-ready={view}]")
    changes: list[str] = []
    page.on("request", lambda request: changes.append(request.url) if changes_something(request) else None)
    buttons = page.locator("#main button[data-guarded]:visible")
    expect(buttons.first).to_be_visible()
    for button in buttons.all():
        expect(button).to_have_attribute("aria-disabled", "true")
        expect(button).to_have_attribute("title", "This key can predict and read. A change needs an admin key.")
    enabled = page.locator("#main button[data-guarded]:visible:not(:disabled)")
    enabled.first.click(force=True)
    expect(page.locator(".toast").first).to_contain_text("A change needs an admin key")
    assert changes == []


def test_another_key_is_taken_without_a_reload(guarded_views: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(guarded_views.address("models"), is_ready=False)
    give(page, PREDICT)
    page.wait_for_selector("html[data-ready=models]")
    page.get_by_role("checkbox").check()
    buttons = page.locator("#main button[data-guarded]")
    pin = page.get_by_role("button", name="Pin narrow").first
    pin.click(force=True)
    for typed in (WRONG, None):
        page.get_by_role("button", name="Use another key").last.click()
        give(page, typed)
        if typed:
            expect(page.get_by_role("dialog")).to_contain_text("does not know this key")
            give(page, None)
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(pin).to_have_attribute("aria-disabled", "true")
    assert page.evaluate("sessionStorage.getItem('digitlab-key')") == PREDICT, "it keeps the one that it has"
    page.get_by_role("button", name="Use another key").last.click()
    give(page, ADMIN)
    expect(page.locator("#main button[aria-disabled]")).to_have_count(0)
    assert buttons.count() > 1
    assert page.evaluate("sessionStorage.getItem('digitlab-key')") == ADMIN


def test_a_key_stands_in_no_address_no_log_and_nothing_that_is_kept(
    guarded_views: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(guarded_views.address("draw"), is_ready=False)
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    give(page, WRONG)
    give(page, ADMIN)
    for view in ("draw", "runs", "run", "sweep", "models"):
        page.goto(guarded_views.address(view))
        page.wait_for_selector(f"html[data-ready={view}]")
        addresses.append(page.url)
    kept = page.evaluate(
        """async () => JSON.stringify([{...localStorage}, document.cookie, history.state, window.name,
            await caches.keys(), (await indexedDB.databases()).map(({name}) => name), document.body.innerHTML])"""
    )
    assert len(addresses) > 20
    for key in (WRONG, ADMIN):
        assert [each for each in addresses if key in each] == []
        assert key not in kept
        assert key not in guarded_views.processes.log
    assert "/models/champion" in guarded_views.processes.log, "requests are logged"


def test_an_admin_key_trains(guarded: Processes, open_page: WatchedPages) -> None:
    page, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/train", is_ready=False)
    page.get_by_role("textbox", name="Key").fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.locator(".plan")).to_contain_text("parameters")
    page.locator(".start").click()
    expect(page.locator(".live")).to_contain_text("dropout-tanh")
    runs = guarded.client.get("/runs", headers={"Authorization": f"Bearer {ADMIN}"}).json()["data"]
    assert [run["name"] for run in runs] == ["dropout-tanh"]


def test_without_a_key_the_view_says_so_and_asks_again(guarded: Processes, open_page: WatchedPages) -> None:
    page, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/runs", (401, "/"), is_ready=False)
    page.get_by_role("button", name="Not now").click()
    again = page.get_by_role("button", name="Enter a key")
    expect(again).to_be_visible()
    again.click()
    page.get_by_role("textbox", name="Key").fill(ADMIN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No runs yet")).to_be_visible()
