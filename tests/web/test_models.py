"""Models: pin, roll back, unpin, and a champion whose file is damaged, as the page shows and the service does them."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, Route, expect
from sqlalchemy import update

from app.tables import SavedModel
from tests.e2e.conftest import wait_for
from tests.web.conftest import Service, WatchedPages, draw, oval

BLANK = {"instances": [[[0] * 8] * 8]}
ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-")


def elected(service: Service) -> str:
    """Return the name of the champion by the API."""
    name: str = service.processes.client.get("/models/champion").json()["model"]["name"]
    return name


def answering(service: Service) -> str:
    """Return the name of the model that answers `POST /predict`."""
    run_id = service.processes.client.post("/predict", json=BLANK).json()["model"]["run_id"]
    name: str = service.processes.get(run_id)["name"]
    return name


def shows(page: Page, name: str, reason: str) -> None:
    """Wait until the page names the champion and its reason, in its place and in the bar."""
    expect(page.locator(".heroname")).to_have_text(name)
    expect(page.locator(".why .chip")).to_have_text(reason)
    expect(page.locator(".answering")).to_contain_text(name)


def timeline(page: Page) -> list[tuple[str, str]]:
    rows = page.locator(".timeline li").all()
    return [(row.locator(".who").inner_text(), row.locator(".chip").inner_text()) for row in rows]


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def test_a_pin_two_rollbacks_and_an_unpin_do_what_their_buttons_say(
    filled_service: Service, open_page: WatchedPages
) -> None:
    filled_service.processes.start_api()
    best = elected(filled_service)
    other = "narrow" if best != "narrow" else "first model"
    page, _ = open_page(f"{filled_service.url}/#/models")
    shows(page, best, "automatic")
    assert not ID.search(page.locator("#main").inner_text()), "models have names"
    back = page.locator(".acts button", has_text="automatic")
    expect(back).to_be_disabled()
    page.get_by_role("checkbox").check()
    button(page, f"Pin {other}").first.click()
    shows(page, other, "pinned")
    button(page, f"Roll back to {best}").click()
    shows(page, best, "pinned")
    button(page, f"Roll back to {other}").click()
    shows(page, other, "pinned")
    wait_for(lambda: answering(filled_service) == other)
    button(page, f"Back to automatic: {best}").click()
    shows(page, best, "automatic")
    expect(back).to_be_disabled()
    wait_for(lambda: answering(filled_service) == best)
    history = filled_service.processes.client.get("/models/champion").json()["history"]
    expected = [(best, "automatic"), (other, "pinned"), (best, "pinned"), (other, "pinned"), (best, "automatic")]
    assert [(each["name"], each["reason"]) for each in history][:5] == expected
    assert timeline(page)[:5] == expected
    assert timeline(page) == [(each["name"], each["reason"]) for each in history][:12]


def test_a_refused_change_is_said_in_the_services_words(filled_service: Service, open_page: WatchedPages) -> None:
    filled_service.processes.start_api()
    page, _ = open_page(f"{filled_service.url}/#/models", (404, "/models/champion"), (404, "/runs/"))
    gone = filled_service.other_id if elected(filled_service) != "narrow" else filled_service.run_id
    name = "narrow" if gone == filled_service.other_id else "first model"
    pin = button(page, f"Pin {name}").first
    expect(pin).to_be_visible()
    page.route("**/events/stream*", lambda route: route.abort())
    answer = filled_service.processes.client.delete(f"/runs/{gone}")
    assert answer.is_success
    refusal = filled_service.processes.client.put("/models/champion", json={"run_id": gone}).json()
    pin.click()
    expect(page.locator(".toast")).to_have_text(refusal["detail"])


def test_a_damaged_champion_is_said_and_the_model_that_answers_is_named(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    processes.start_api()
    best = elected(filled_service)
    run_id = processes.client.get("/models/champion").json()["model"]["run_id"]
    with processes.database.writing() as session:
        graph = bytearray(session.get_one(SavedModel, run_id).onnx)
        graph[len(graph) // 2] ^= 1
        session.execute(update(SavedModel).where(SavedModel.run_id == run_id).values(onnx=bytes(graph)))
    processes.restart_api()
    instead = answering(filled_service)
    assert instead != best
    causes = processes.client.get("/health/ready").json()["causes"]
    (damage,) = [each for each in causes if run_id in each]
    page, _ = open_page(f"{filled_service.url}/#/models")
    expect(page.locator(".heroname")).to_have_text(best)  # the elected one: it counts again once its file is mended
    expect(page.locator(".banner", has_text=damage)).to_be_visible()
    assert page.locator(".banner").count() == len(causes)
    page.goto(f"{filled_service.url}/#/draw")
    page.wait_for_selector("html[data-ready=draw]")
    draw(page, oval())
    expect(page.locator(".draw-by a")).to_have_text(instead)
    assert page.locator(".draw-by .star").count() == 0, "it is not the champion"
    expect(page.locator(".banner", has_text=damage)).to_be_visible()


def test_a_challenger_that_is_none_of_the_best_is_asked_for_by_its_id(
    filled_service: Service, open_page: WatchedPages
) -> None:
    filled_service.processes.start_api()
    client = filled_service.processes.client
    best = client.get("/models/champion").json()["model"]["run_id"]
    (other,) = {filled_service.run_id, filled_service.other_id} - {best}
    name = filled_service.processes.get(other)["name"]
    page, _ = open_page(f"{filled_service.url}/#/states")

    def cut(route: Route) -> None:
        """Answer as if the service had more models than the page asks for."""
        found = route.fetch().json()
        route.fulfill(json=found | {"data": found["data"][:1], "has_more": True})

    page.route(re.compile(r"/models\?limit=100"), cut)
    page.goto(f"{filled_service.url}/#/models?against={other}")
    page.wait_for_selector("html[data-ready=models]")
    comparison = client.get(f"/runs/{other}/mistakes", params={"against": best}).json()
    numbers = [len(comparison[part]) for part in ("fixed", "introduced", "shared")]
    assert [int(text.split()[0]) for text in page.locator(".duel h3").all_inner_texts()] == numbers
    expect(page.locator(".challenge .note")).to_contain_text(f"{name}, against")
    expect(page.get_by_label("Challenger").locator("option:checked")).to_contain_text(name)
    number = client.get("/runs", params={"counts": True, "limit": 1}).json()["counts"]["succeeded"]
    expect(page.locator(".head .note")).to_have_text(f"1 best of {number} saved models")
