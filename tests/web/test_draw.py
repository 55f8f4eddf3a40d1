"""Draw: strokes by mouse, finger and pen; the answer; corrections; the keyboard's way; links; champions that change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import Processes
from tests.web.conftest import QUICK, Service, WatchedPages, draw, oval, shown_pixels

pytestmark = pytest.mark.xdist_group("web")

ANSWERED = ".draw-answer:not([data-state=empty], [data-state=waiting])"


def digitized(service: Service, strokes: object) -> list[int]:
    answer = service.processes.client.post("/digitize", json={"strokes": [strokes]}).json()
    return [pixel for row in answer["pixels"][0] for pixel in row]


def last_strokes(bodies: list[str]) -> object:
    return json.loads([body for body in bodies if "strokes" in body][-1])["strokes"][0]


def note_bodies(page: Page) -> list[str]:
    bodies: list[str] = []
    page.on("request", lambda request: bodies.append(request.post_data or "") if "/predict" in request.url else None)
    return bodies


def test_an_empty_service_says_what_it_trains_and_answers_what_was_drawn_meanwhile(
    idle_service: Processes, open_page: WatchedPages
) -> None:
    idle_service.start_api()
    idle_service.submit({"name": "starter run", **QUICK})
    page, _ = open_page(f"http://127.0.0.1:{idle_service.port}/")
    expect(page.locator(".answer-verdict")).to_have_text("Training the first model")
    draw(page, oval())
    expect(page.locator(".draw-answer")).to_contain_text("What you drew stays")
    idle_service.start_worker()
    expect(page.locator(ANSWERED)).to_be_visible(timeout=90_000)
    assert sum(shown_pixels(page)) > 0
    expect(page.locator(".draw-by")).to_contain_text("starter run")
    expect(page.locator("#bar .answering")).to_contain_text("starter run")


def test_a_mouse_draws_and_the_pixels_are_those_of_the_service(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    bodies = note_bodies(page)
    draw(page, oval())
    expect(page.locator(ANSWERED)).to_be_visible()
    page.wait_for_timeout(300)
    assert page.locator(".answer-digit").inner_text().startswith("0")
    assert shown_pixels(page) == digitized(service, last_strokes(bodies))


def test_a_finger_draws_and_the_page_does_not_scroll(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"), viewport={"width": 390, "height": 700}, has_touch=True)
    bodies = note_bodies(page)
    box = page.locator(".pad").bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    left = box["x"] + (box["width"] - box["height"]) / 2
    kinds = ["touchStart", *["touchMove"] * 24]
    for kind, (x, y) in zip(kinds, oval(), strict=True):
        at = {"x": left + x * box["height"], "y": box["y"] + y * box["height"]}
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator(ANSWERED)).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("scrollY") == 0
    assert shown_pixels(page) == digitized(service, last_strokes(bodies))


def test_a_pen_draws(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    session = page.context.new_cdp_session(page)
    box = page.locator(".pad").bounding_box()
    assert box is not None
    for number, (x, y) in enumerate(oval()):
        kind = "mousePressed" if number == 0 else "mouseMoved"
        event = {"type": kind, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "button": "left"}
        session.send("Input.dispatchMouseEvent", {**event, "buttons": 1, "clickCount": 1, "pointerType": "pen"})
    session.send("Input.dispatchMouseEvent", {**event, "type": "mouseReleased", "buttons": 0, "pointerType": "pen"})
    expect(page.locator(ANSWERED)).to_be_visible()
    assert sum(shown_pixels(page)) > 0


def test_undo_clear_correct_and_export(service: Service, open_page: WatchedPages, tmp_path: Path) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, [(0.3, 0.2), (0.7, 0.2)])
    draw(page, [(0.7, 0.2), (0.4, 0.8)])
    expect(page.locator(ANSWERED)).to_be_visible()
    page.keyboard.press("z")
    page.keyboard.press("Escape")
    expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")
    expect(page.get_by_role("button", name="That was a 7")).to_be_disabled()
    draw(page, [(0.3, 0.2), (0.7, 0.2), (0.4, 0.8)])
    expect(page.get_by_role("button", name="That was a 7")).to_be_enabled()
    page.wait_for_timeout(300)
    page.keyboard.press("7")
    expect(page.locator(".toast")).to_contain_text("7")
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "digits.json"
    downloaded.value.save_as(file)
    newest = json.loads(file.read_text())[0]
    assert newest["label"] == 7
    assert len(newest["pixels"]) == 64
    page.reload()
    expect(page.locator(".recent .digit").first).to_be_visible()


def test_the_keyboard_alone_paints_a_digit_and_corrects_it(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('seen')"):
            break
    for key in (" ", "ArrowDown", " ", "ArrowDown", " ", "ArrowUp", "ArrowUp", "ArrowUp", "9", "ArrowLeft", "5"):
        page.keyboard.press(key)
    expect(page.locator(ANSWERED)).to_be_visible()
    pixels = shown_pixels(page)
    assert [i for i, pixel in enumerate(pixels) if pixel] == [18, 19, 27, 35, 43]
    assert (pixels[18], pixels[19], pixels[27]) == (9, 16, 16)
    expect(page.locator("#live")).to_contain_text("of 16")
    page.get_by_role("button", name="That was a 1").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".recent .digit").first).to_be_visible()


def test_a_link_reopens_the_digit_in_another_browser(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, oval())
    expect(page.locator(ANSWERED)).to_be_visible()
    page.wait_for_timeout(300)
    pixels, link = shown_pixels(page), page.url
    other, _ = open_page(link)
    expect(other.locator(ANSWERED)).to_be_visible()
    assert shown_pixels(other) == pixels
    assert other.locator(".answer-digit").inner_text() == page.locator(".answer-digit").inner_text()


def test_the_latest_drawing_wins_and_never_two_requests_are_in_flight(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("draw"))
    in_flight, most, number = 0, 0, 0

    def delay(route: Route) -> None:
        nonlocal in_flight, most, number
        if "run_id" in route.request.url:  # second opinions
            route.continue_()
            return
        in_flight, number = in_flight + 1, number + 1
        most = max(most, in_flight)
        response = route.fetch()
        page.wait_for_timeout(250 if number % 2 else 20)
        in_flight -= 1
        route.fulfill(response=response)

    page.route("**/predict*", delay)
    page.wait_for_timeout(300)
    assert number == 0, "an empty pad is not asked"
    bodies = note_bodies(page)
    draw(page, oval(), steps=2)
    page.wait_for_timeout(1500)
    assert most == 1
    assert number >= 2
    assert shown_pixels(page) == digitized(service, last_strokes(bodies))


def test_why_is_one_request_of_65_images(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, oval())
    expect(page.locator(ANSWERED)).to_be_visible()
    page.wait_for_timeout(300)
    bodies = note_bodies(page)
    page.get_by_role("button", name="Why").click()
    expect(page.locator(".draw-seen")).to_contain_text("pixel by pixel")
    assert [len(json.loads(body)["instances"]) for body in bodies] == [65]
    assert "show=why" in page.url


def test_a_picture_is_read_and_a_text_is_refused_kindly(
    service: Service, open_page: WatchedPages, tmp_path: Path
) -> None:
    picture = Image.new("L", (200, 200), 255)
    ImageDraw.Draw(picture).ellipse((60, 30, 140, 170), outline=0, width=18)
    picture.save(tmp_path / "zero.png")
    (tmp_path / "text.txt").write_text("not a picture")
    page, watched = open_page(service.address("draw"))
    page.set_input_files("input[type=file]", tmp_path / "zero.png")
    expect(page.locator(ANSWERED)).to_be_visible()
    assert page.locator(".answer-digit").inner_text().startswith("0")
    page.set_input_files("input[type=file]", tmp_path / "text.txt")
    expect(page.locator(".toast").last).to_contain_text("no picture")
    (tmp_path / "broken.png").write_bytes((tmp_path / "zero.png").read_bytes()[:60])
    watched.expect(422, "/predict")
    page.set_input_files("input[type=file]", tmp_path / "broken.png")
    expect(page.locator(".draw-answer")).to_contain_text("No answer")


def test_a_new_champion_answers_without_a_reload(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, oval())
    expect(page.locator(".draw-by")).to_contain_text("first model")
    client = service.processes.client
    assert client.put("/models/champion", json={"run_id": service.other_id}).is_success
    try:
        expect(page.locator(".draw-by")).to_contain_text("narrow")
        expect(page.locator("#bar .answering")).to_contain_text("narrow")
    finally:
        assert client.delete("/models/champion").is_success
    expect(page.locator("#bar .answering")).to_contain_text("first model")
