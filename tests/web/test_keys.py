"""Keys: the dialogue, what a predict key may do, and where a key is kept."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import Processes
from tests.web.conftest import WatchedPages

pytestmark = pytest.mark.xdist_group("web")

PREDICT, ADMIN = "reader-0123456789", "writer-0123456789"


@pytest.fixture
def guarded(idle_service: Processes) -> Processes:
    idle_service.start_api(DIGITLAB_API_KEYS=f"predict:{PREDICT},admin:{ADMIN}", DIGITLAB_LOG_REQUESTS="all")
    return idle_service


def test_a_key_is_asked_for_once_and_kept_in_the_tab_alone(guarded: Processes, open_page: WatchedPages) -> None:
    page, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/runs", is_ready=False)
    dialogue = page.get_by_role("dialog")
    expect(dialogue).to_be_visible()
    page.get_by_role("textbox", name="Key").fill("wrong-0123456789")
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


def test_a_predict_key_reads_and_the_buttons_say_what_they_need(guarded: Processes, open_page: WatchedPages) -> None:
    page, _ = open_page(f"http://127.0.0.1:{guarded.port}/#/train", is_ready=False)
    page.get_by_role("textbox", name="Key").fill(PREDICT)
    page.keyboard.press("Enter")
    train = page.locator(".start")
    expect(train).to_have_attribute("aria-disabled", "true")
    assert "admin key" in (train.get_attribute("title") or "")
    train.click(force=True)
    page.wait_for_timeout(300)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    assert guarded.client.get("/runs", headers=headers).json()["data"] == []


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
