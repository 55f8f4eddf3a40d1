"""Buttons that change something: a double click is one act, and no click answers the question that it asks."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.e2e.conftest import wait_for
from tests.web.conftest import PATIENCE_MS, Service, WatchedPages, draw, go, oval

DIGITS = "JSON.parse(localStorage['digitlab-digits'] ?? '[]').map((each) => each.digit)"
KEPT = "JSON.parse(localStorage['digitlab-digits']).map((each) => [each.strokes.length, each.label ?? null])"


def total(service: Service) -> int:
    counts = service.processes.client.get("/runs", params={"counts": True, "limit": 1}).json()["counts"]
    number: int = counts["total"]
    return number


def test_a_double_click_on_delete_asks_and_a_click_on_the_question_deletes(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    processes.start_api()
    client = processes.client
    ids = [client.post("/runs", json={"name": f"victim {number}"}).json()["id"] for number in range(3)]
    for run_id in ids:
        assert client.post(f"/runs/{run_id}/cancel").is_success
    page, _ = open_page(f"{filled_service.url}/#/runs/{ids[0]}")
    places = {
        f"runs/{ids[0]}": ("Delete for good?", [f"/runs/{ids[0]}"]),
        f"runs?select={ids[1]}&select={ids[2]}": ("Delete", [f"/runs/{ids[1]}", f"/runs/{ids[2]}"]),
        f"sweeps/{filled_service.sweep_id}": ("Delete with 4 trials?", [f"/sweeps/{filled_service.sweep_id}"]),
    }
    for place, (question, paths) in places.items():
        go(page, f"{filled_service.url}/#/{place}")
        page.get_by_role("button", name="Delete").dblclick()
        answer = page.get_by_role("button", name=question)
        expect(answer).to_be_enabled()
        page.wait_for_timeout(200)
        assert [client.get(path).status_code for path in paths] == [200] * len(paths), place
        if "select" in place:
            page.get_by_role("button", name="Keep").click()
        else:
            expect(answer).to_be_focused()
            page.locator("h1").first.click()
        expect(page.get_by_role("button", name="Delete", exact=True)).to_be_enabled()
        page.get_by_role("button", name="Delete", exact=True).focus()
        page.keyboard.down("Enter")
        for _ in range(40):  # held down for longer than the question takes
            page.wait_for_timeout(25)
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
        assert [client.get(path).status_code for path in paths] == [200] * len(paths), f"{place} by a held key"
        answer.click()
        expect(page.locator(".toast", has_text="deleted")).to_be_visible()
        assert [client.get(path).status_code for path in paths] == [404] * len(paths), place


def test_a_double_click_acts_once_and_a_lost_answer_is_asked_for_again(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    processes.start_api()
    client = processes.client
    best = client.get("/models/champion").json()["model"]["run_id"]
    (other,) = {filled_service.run_id, filled_service.other_id} - {best}
    assert client.put("/models/champion", json={"run_id": other}).is_success
    page, watched = open_page(f"{filled_service.url}/#/models")
    page.locator(".acts").get_by_role("button", name="Roll back to").dblclick()
    page.wait_for_timeout(400)
    champion = client.get("/models/champion").json()
    assert champion["model"]["run_id"] == best, "there, and not back again"
    assert [each["run_id"] for each in champion["history"]][:2] == [best, other]

    go(page, f"{filled_service.url}/#/runs?select={best}")
    before = total(filled_service)
    again = page.get_by_role("button", name="Run again")
    again.dblclick()
    expect(page.locator(".toast", has_text="1 queued again")).to_be_visible()
    page.wait_for_timeout(300)
    assert total(filled_service) == before + 1
    lost: list[str] = []

    def lose(route: Route) -> None:
        if route.request.method != "POST" or lost:
            return route.fallback()
        route.fetch()
        lost.append(route.request.headers["idempotency-key"])
        return route.abort()

    page.route(re.compile("/runs$"), lose)
    again.click()
    expect(page.locator(".toast", has_text="does not answer")).to_be_visible()
    watched.found[:] = [each for each in watched.found if "ERR_FAILED" not in each]
    with page.expect_response(re.compile("/runs$")) as answer:
        again.click()
    assert answer.value.request.headers["idempotency-key"] == lost[0]
    assert total(filled_service) == before + 2, "the run whose answer was lost is not made twice"


def test_digits_of_two_tabs_are_kept_and_what_is_undone_is_one_entry(service: Service, open_page: WatchedPages) -> None:
    first, _ = open_page(service.address("draw"))
    second = first.context.new_page()
    second.set_default_timeout(PATIENCE_MS)
    second.goto(service.address("draw"))
    second.wait_for_selector("html[data-ready]")
    for number, page in enumerate((first, second, first), 1):
        page.bring_to_front()
        page.keyboard.press("Escape")
        draw(page, oval())
        for each in (first, second):
            expect(each.locator(".recent .digit")).to_have_count(number)
        assert len(page.evaluate(DIGITS)) == number
    first.keyboard.press("0")
    undo = first.locator(".toast").get_by_role("button", name="Undo")
    draw(first, [(0.5, 0.12), (0.5, 0.9)])
    draw(first, [(0.3, 0.5), (0.7, 0.5)])
    expect(first.locator(".recent .digit")).to_have_count(4)
    expected = [[2, None], [1, 0], [1, None], [1, None]]
    wait_for(lambda: first.evaluate(KEPT) == expected)
    undo.click()
    assert first.evaluate(KEPT) == [[2, None], [1, None], [1, None], [1, None]]
    first.get_by_role("button", name="Forget all digits").click()
    expect(second.locator(".recent .digit")).to_have_count(0)
    undo.click()
    expect(second.locator(".recent .digit")).to_have_count(4)
