"""What is drawn anew under the reader's hand: what is held keeps its click, and what had the focus gets it back."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.web.conftest import Service, WatchedPages

PIN = "/models/champion"


def other_model(service: Service, champion: str) -> str:
    """Return the id of a saved model of another name than the champion's."""
    return service.other_id if champion != "narrow" else service.run_id


def press(page: Page, selector: str) -> None:
    """Put the mouse's button down on an element; what was hit is `pressed`, also if it was drawn anew just before."""
    page.locator(selector).first.hover()
    page.evaluate("addEventListener('pointerdown', ({ target }) => { window.pressed = target; }, { once: true })")
    page.mouse.down()


def test_a_button_that_is_drawn_anew_while_it_is_held_is_clicked(
    filled_service: Service, open_page: WatchedPages
) -> None:
    processes = filled_service.processes
    processes.start_api()
    client = processes.client
    page, _ = open_page(f"{filled_service.url}/#/models")
    name = page.locator(".heroname")
    before = name.inner_text()
    other = other_model(filled_service, before)
    press(page, ".acts button:has-text('curl')")
    assert client.put(PIN, json={"run_id": other}).is_success
    expect(page.locator(".answering")).not_to_contain_text(before)  # the bar, which is not held, is drawn anew
    page.wait_for_timeout(500)
    assert page.evaluate("pressed.isConnected")
    expect(name).to_have_text(before)
    page.mouse.up()
    expect(page.locator(".toast", has_text="curl copied")).to_be_visible()
    expect(name).not_to_have_text(before)

    press(page, "#bar .answering b")
    assert client.delete(PIN).is_success
    expect(name).to_have_text(before)  # the view, which is not held now
    assert page.evaluate("pressed.isConnected")
    page.mouse.up()
    expect(page.locator(".answering")).to_contain_text(before)


def test_what_is_drawn_anew_keeps_the_focus(filled_service: Service, open_page: WatchedPages) -> None:
    processes = filled_service.processes
    processes.start_api()
    page, _ = open_page(f"{filled_service.url}/#/models")
    before = page.locator(".heroname").inner_text()
    other = other_model(filled_service, before)
    focused = "document.activeElement.getAttribute('href') ?? document.activeElement.textContent"
    rows = page.locator(".board a")
    rows.nth(1).focus()
    link = page.evaluate(focused)
    assert processes.client.put(PIN, json={"run_id": other}).is_success
    expect(page.locator(".heroname")).not_to_have_text(before)
    assert page.evaluate(focused) == link
    page.locator(".acts button", has_text="curl").focus()
    assert processes.client.delete(PIN).is_success
    expect(page.locator(".heroname")).to_have_text(before)
    assert page.evaluate(focused) == "curl"


def test_a_link_of_the_bar_is_followed_while_events_come(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("models"))
    submitted = service.processes.client.post("/runs", json={"name": "in the bar", "training": {"epochs": 20_000}})
    expect(page.locator("#bar .training")).to_contain_text("1 training")
    page.locator("#bar a").first.focus()  # which loses it as the button goes down: that lets nothing go
    press(page, "#bar .training b")
    assert service.processes.client.post(f"/runs/{submitted.json()['id']}/cancel").is_success
    page.wait_for_timeout(1500)
    assert page.evaluate("pressed.isConnected")
    page.mouse.up()
    page.wait_for_url("**/#/runs*")
    expect(page.locator("#bar .training")).to_contain_text("idle")


def test_a_space_bar_that_is_let_go_elsewhere_holds_nothing(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    page.locator("#bar .training").focus()
    page.keyboard.down(" ")
    page.evaluate("dispatchEvent(new Event('blur'))")  # another window takes the keys: no `keyup` comes
    submitted = service.processes.client.post("/runs", json={"name": "later", "training": {"epochs": 20_000}})
    expect(page.locator("#bar .training")).to_contain_text("1 training")
    service.processes.client.post(f"/runs/{submitted.json()['id']}/cancel")
