"""What goes on by itself: after an answer that was lost, after the service was away, after a key that came late."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.web.conftest import PATIENCE_MS, Service, Watched, WatchedPages, answered, draw, frames, oval

ADMIN = "writer-0123456789"
SMALL = {"model": {"hidden_sizes": [3]}, "training": {"epochs": 2}}
LOST = "ERR_FAILED"
AWAY = "net::ERR_"


def forget(watched: Watched, what: str) -> None:
    """Leave out what a browser writes itself where no answer comes."""
    watched.found[:] = [each for each in watched.found if what not in each]


def lose_answer(page: Page, path: str, button: Locator) -> str:
    """Click a button, let its POST reach the service, and lose the answer; return the id of what was made."""
    held: list[Route] = []
    page.route(path, lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    button.click()
    while not held:
        frames(page)
    made: str = held[0].fetch().json()["id"]
    held[0].abort()
    page.unroute(path)
    return made


def test_after_a_lost_answer_the_same_run_is_not_made_twice_and_another_one_is_made(
    service: Service, open_page: WatchedPages
) -> None:
    client = service.processes.client
    page, watched = open_page(
        f"{service.url}/#/train?preset=defaults&training.epochs=2&model.hidden_sizes=3", reduced_motion="reduce"
    )
    served: list[str] = []
    button = page.locator(".start")
    expect(page.locator(".plan")).to_contain_text("parameters")

    def train_and_lose() -> None:
        served.append(lose_answer(page, "**/runs", button))
        expect(page.locator(".toast").last).to_contain_text("does not answer")
        expect(button).to_be_enabled()

    def train() -> str:
        with page.expect_response(re.compile(r"/runs$")) as answer:
            button.click()
        assert answer.value.status in (200, 202), answer.value.text()
        run_id: str = answer.value.json()["id"]
        expect(page).to_have_url(re.compile(f"run={run_id}"))
        return run_id

    train_and_lose()
    assert train() == served[0], "the same body is the same run"
    expect(page.locator(".live .status")).to_contain_text("trained in")
    again = train()
    assert again != served[0], "once it was answered, the same body is another run"
    expect(page.locator(".live .status")).to_contain_text("trained in")
    train_and_lose()
    page.get_by_label("Epochs, exactly").fill("3")
    page.keyboard.press("Tab")
    other = train()
    assert other not in {*served, again}
    page.goto(service.address("states"))
    for run_id in {*served, again, other}:
        service.processes.finish(run_id)
        assert client.delete(f"/runs/{run_id}").is_success
    forget(watched, LOST)


def test_after_a_lost_answer_another_sweep_is_made(service: Service, open_page: WatchedPages) -> None:
    page, watched = open_page(f"{service.url}/#/sweeps?new=1")
    area = page.locator("textarea")
    button = page.get_by_role("button", name="Start the sweep")
    for seed in (1, 2):
        area.fill(f'{{"name": "lost", "base": {{"training": {{"epochs": 2}}}}, "parameters": {{"seed": [{seed}]}}}}')
        expect(page.locator(".newsweep .plan").first).to_contain_text("1 points")
        expect(button).to_be_enabled()
        if seed == 1:
            lost = lose_answer(page, "**/sweeps", button)
            expect(page.locator(".newsweep [role=alert]")).to_contain_text("does not answer")
    button.click()
    expect(page).to_have_url(re.compile("#/sweeps/"))
    sweep_id = page.url.rpartition("/")[2]
    assert sweep_id != lost
    for each in (sweep_id, lost):
        trials = service.processes.client.get("/runs", params={"sweep_id": each}).json()["data"]
        for trial in trials:
            service.processes.finish(trial["id"])
        assert service.processes.client.delete(f"/sweeps/{each}").is_success
    forget(watched, LOST)


def test_draw_and_train_go_on_after_the_service_was_away(filled_service: Service, open_page: WatchedPages) -> None:
    processes = filled_service.processes
    api = processes.start_api()
    page, watched = open_page(f"{filled_service.url}/#/train?preset=defaults")
    draw_page, train_page = page.context.new_page(), page  # the second tab hears of the stream from the first
    watched.follow(draw_page)
    draw_page.goto(filled_service.address("draw"))
    draw_page.wait_for_selector("html[data-ready=draw]")
    expect(train_page.locator(".plan")).to_contain_text("parameters")
    api.terminate()
    api.wait(60)
    draw(draw_page, oval())
    expect(draw_page.locator(".answer-verdict")).to_have_text("No answer")
    train_page.get_by_label("Epochs, exactly").fill("5")
    train_page.keyboard.press("Tab")
    expect(train_page.locator(".knobs [role=alert]:visible")).to_contain_text("does not answer")
    processes.start_api()
    expect(draw_page.locator(".answer-digit")).to_have_text(re.compile("^0"), timeout=PATIENCE_MS)
    expect(train_page.locator(".plan")).to_contain_text("parameters", timeout=PATIENCE_MS)
    expect(train_page.locator(".start")).to_be_enabled()
    expect(train_page.locator(".knobs [role=alert]:visible")).to_have_count(0)
    forget(watched, AWAY)


@pytest.fixture
def guarded(filled_service: Service) -> Service:
    filled_service.processes.start_api(DIGITLAB_API_KEYS=f"admin:{ADMIN}")
    return filled_service


def give(page: Page, key: str) -> None:
    page.get_by_role("dialog").get_by_role("textbox", name="Key").fill(key)
    page.get_by_role("button", name="Use it").click()


def test_a_key_that_comes_late_is_as_good_as_one_at_the_start(guarded: Service, open_page: WatchedPages) -> None:
    client = guarded.processes.client
    headers = {"Authorization": f"Bearer {ADMIN}"}

    def is_followed(page: Page) -> None:
        expect(page.locator("#bar .answering")).to_contain_text("first model")
        made = client.post("/runs", json={"name": "followed", **SMALL}, headers=headers).json()["id"]
        expect(page.locator("#bar .training")).to_contain_text("1 queued")
        assert client.post(f"/runs/{made}/cancel", headers=headers).is_success
        expect(page.locator("#bar .training")).to_contain_text("idle")

    def refuse_then_draw(page: Page) -> None:
        draw(page, oval())
        expect(page.locator(".answer-verdict")).to_have_text("No answer")

    def nothing(page: Page) -> None:
        expect(page.locator("#main")).to_contain_text("401")

    cases: dict[str, Callable[[Page], None]] = {"runs": nothing, "draw": refuse_then_draw}
    for view, meanwhile in cases.items():
        page, _ = open_page(guarded.address(view), (401, "/"), is_ready=False)
        page.get_by_role("button", name="Not now").click()
        page.wait_for_selector(f"html[data-ready={view}]")
        meanwhile(page)
        page.get_by_role("button", name="Enter a key").click()
        give(page, "ключ-0123456789")
        expect(page.get_by_role("dialog")).to_contain_text("only letters, digits and signs of ASCII")
        assert page.evaluate("sessionStorage.length") == 0
        give(page, ADMIN)
        if view == "draw":
            expect(page.locator(".answer-digit")).to_have_text(re.compile("^0"))
        else:
            expect(page.locator(f'tr[data-id="{guarded.run_id}"]')).to_be_visible()
        is_followed(page)
        page.context.close()


def test_a_key_that_no_request_can_carry_is_asked_for_anew(guarded: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(guarded.address("states"), (401, "/"), is_ready=False)
    page.evaluate("sessionStorage.setItem('digitlab-key', 'ключ')")
    page.goto(guarded.address("draw"))
    page.reload()
    give(page, ADMIN)
    draw(page, oval())
    answered(page)
    expect(page.locator(".answer-digit")).to_have_text(re.compile("^0"))


def test_the_python_that_is_copied_sends_a_key(guarded: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(f"{guarded.url}/#/runs/{guarded.other_id}?code=python", is_ready=False)
    give(page, ADMIN)
    text = page.locator(".a-code pre").inner_text()
    assert ADMIN not in text
    environment = {**os.environ, "KEY": ADMIN}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    headers = {"Authorization": f"Bearer {ADMIN}"}
    made = guarded.processes.client.get(f"/runs/{done.stdout.decode().strip()}", headers=headers).json()
    assert made["name"] == "narrow"
