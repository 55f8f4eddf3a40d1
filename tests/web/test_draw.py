"""Draw: strokes by mouse, finger and pen; the answer; corrections; the keyboard's way; links; champions that change."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import CDPSession, Page, Route, expect

from tests.e2e.conftest import Processes
from tests.web.conftest import QUICK, TRAINED_MS, Service, WatchedPages, answered, draw, frames, oval, shown_pixels

ANSWERED = ".draw-answer:not([data-state=empty], [data-state=waiting])"
MEGAPIXELS_20 = (5472, 3648)
MAX_UPLOAD = 700_000  # bytes; the page makes larger pictures smaller


def digitized(processes: Processes, strokes: object) -> list[int]:
    """Return the pixels that the service makes of strokes."""
    answer = processes.client.post("/digitize", json={"strokes": [strokes]}).json()
    return [pixel for row in answer["pixels"][0] for pixel in row]


def strokes_of(body: str) -> list[Any]:
    strokes: list[Any] = json.loads(body)["strokes"][0]
    return strokes


def last_strokes(bodies: list[str]) -> list[Any]:
    return strokes_of([body for body in bodies if "strokes" in body][-1])


def note_bodies(page: Page) -> list[str]:
    """Return a list of what the page will post to `/predict`; pictures, which are bytes, stand as empty texts."""
    bodies: list[str] = []

    def note(request: Any) -> None:
        if "/predict" in request.url:
            is_json = request.headers.get("content-type", "").startswith("application/json")
            bodies.append(request.post_data or "" if is_json else "")

    page.on("request", note)
    return bodies


def on_pad(page: Page) -> list[tuple[float, float]]:
    """Return the points of an oval on the pad, in pixels of the window."""
    box = page.locator(".pad").bounding_box()
    assert box is not None
    left = box["x"] + (box["width"] - box["height"]) / 2
    return [(left + x * box["height"], box["y"] + y * box["height"]) for x, y in oval()]


def touch(session: CDPSession, points: list[tuple[float, float]]) -> None:
    """Lay a finger down, move it through the points, lift it."""
    kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
    for kind, (x, y) in zip(kinds, points, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_an_empty_service_says_what_it_trains_and_answers_what_was_drawn_meanwhile(
    idle_service: Processes, open_page: WatchedPages
) -> None:
    idle_service.start_api()
    idle_service.submit({"name": "starter run", **QUICK})
    page, _ = open_page(f"http://127.0.0.1:{idle_service.port}/")
    bodies = note_bodies(page)
    expect(page.locator(".answer-verdict")).to_have_text("Training the first model")
    draw(page, oval())
    expect(page.locator(".draw-answer")).to_contain_text("What you drew stays")
    assert bodies == [], "nothing is asked before there is a model"
    idle_service.start_worker()
    expect(page.locator(ANSWERED)).to_be_visible(timeout=TRAINED_MS)
    answered(page)
    assert shown_pixels(page) == digitized(idle_service, last_strokes(bodies))
    expect(page.locator(".answer-digit")).to_have_text(re.compile("^0"))
    expect(page.locator(".draw-by")).to_contain_text("starter run")
    expect(page.locator("#bar .answering")).to_contain_text("starter run")


def test_a_mouse_draws_and_the_pixels_are_those_of_the_service(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    bodies = note_bodies(page)
    draw(page, oval())
    answered(page)
    assert page.locator(".answer-digit").inner_text().startswith("0")
    assert shown_pixels(page) == digitized(service.processes, last_strokes(bodies))


def test_a_finger_draws_and_the_page_does_not_scroll(service: Service, open_page: WatchedPages) -> None:
    phone = {"viewport": {"width": 390, "height": 700}, "has_touch": True, "is_mobile": True}
    page, _ = open_page(service.address("draw"), **phone)
    bodies = note_bodies(page)
    session = page.context.new_cdp_session(page)
    touch(session, on_pad(page))
    answered(page)
    assert page.evaluate("scrollY") == 0
    assert page.locator(".answer-digit").inner_text().startswith("0")
    assert shown_pixels(page) == digitized(service.processes, last_strokes(bodies))
    touch(session, [(200, 560 - 20 * number) for number in range(20)])
    page.wait_for_function("scrollY > 100")  # the same finger scrolls beside the pad


def test_a_pen_draws(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    bodies = note_bodies(page)
    page.evaluate(
        "document.querySelector('.pad').addEventListener('pointerdown', (e) => (window.kind = e.pointerType))"
    )
    session = page.context.new_cdp_session(page)
    pen = {"button": "left", "pointerType": "pen", "clickCount": 1}
    for number, (x, y) in enumerate(on_pad(page)):
        kind = "mousePressed" if number == 0 else "mouseMoved"
        session.send("Input.dispatchMouseEvent", {**pen, "type": kind, "x": x, "y": y, "buttons": 1})
    session.send("Input.dispatchMouseEvent", {**pen, "type": "mouseReleased", "x": x, "y": y, "buttons": 0})
    answered(page)
    assert page.evaluate("window.kind") == "pen"
    assert page.locator(".answer-digit").inner_text().startswith("0")
    assert shown_pixels(page) == digitized(service.processes, last_strokes(bodies))


def test_undo_clear_correct_and_export(service: Service, open_page: WatchedPages, tmp_path: Path) -> None:
    page, _ = open_page(service.address("draw"))
    bodies = note_bodies(page)
    draw(page, [(0.3, 0.2), (0.7, 0.2)])
    answered(page)
    bar, first = shown_pixels(page), last_strokes(bodies)
    draw(page, [(0.7, 0.2), (0.4, 0.8)])
    answered(page)
    assert shown_pixels(page) != bar
    page.keyboard.press("z")
    answered(page)
    assert (shown_pixels(page), last_strokes(bodies)) == (bar, first), "the first stroke alone"
    page.keyboard.press("Escape")
    expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")
    expect(page.get_by_role("button", name="That was a 7")).to_be_disabled()
    for key in range(10):
        draw(page, [(0.3, 0.2), (0.7, 0.2), (0.4, 0.8)])
        answered(page)
        page.keyboard.press(str(key))
        expect(page.locator(".toast").last).to_contain_text(f"ept as a {key}")
        expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Export").click()
    file = tmp_path / "digits.json"
    downloaded.value.save_as(file)
    kept = json.loads(file.read_text())
    assert [each.get("label") for each in kept] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, None]
    assert [(len(each["pixels"]), len(each["strokes"])) for each in kept] == [(64, 1)] * 11
    page.reload()
    expect(page.locator(".recent .digit")).to_have_count(11)


def test_the_keyboard_alone_paints_a_digit_hears_the_answer_and_corrects_it(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("draw"))

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is out of reach")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip", "the first Tab"
    tab_to(".seen")
    for key in (" ", "ArrowDown", " ", "ArrowDown", " ", "ArrowUp", "ArrowUp", "ArrowUp", "9", "ArrowLeft", "5"):
        page.keyboard.press(key)
    answered(page)
    pixels = shown_pixels(page)
    assert [i for i, pixel in enumerate(pixels) if pixel] == [18, 19, 27, 35, 43]
    assert (pixels[18], pixels[19], pixels[27]) == (9, 16, 16)
    verdict = page.locator(".answer-verdict").inner_text()
    digit = page.locator(".answer-digit").inner_text()
    state = page.locator(".draw-answer").get_attribute("data-state")
    answer = f"A {digit}: {verdict}." if state in ("sure", "plain") else f"{verdict}."
    expect(page.locator("#live")).to_have_text(f"row 3, column 3: 9 of 16. {answer}")
    tab_to("[aria-label='That was a 1']")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("ept as a 1")
    expect(page.locator(".recent .digit")).to_have_count(1)
    assert "it was a 1" in (page.locator(".recent .digit").get_attribute("aria-label") or "") or digit == "1"


def test_a_link_reopens_the_digit_in_another_browser(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, oval())
    answered(page)
    pixels, link = shown_pixels(page), page.url
    other, _ = open_page(link)
    answered(other)
    expect(other.locator(ANSWERED)).to_be_visible()
    assert shown_pixels(other) == pixels
    assert other.locator(".answer-digit").inner_text() == page.locator(".answer-digit").inner_text()


def test_the_latest_drawing_wins_and_never_two_requests_are_in_flight(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("draw"))
    held: list[Route] = []
    is_asking = re.compile(r"/predict$")  # second opinions name a run
    page.route(is_asking, lambda route: held.append(route))

    def strokes() -> list[int]:
        return [len(strokes_of(route.request.post_data or "")) for route in held]

    page.locator(".pad").hover()
    page.keyboard.press("Escape")
    frames(page)
    assert held == [], "an empty pad is not asked"
    draw(page, [(0.3, 0.2), (0.7, 0.2)], steps=8)
    draw(page, [(0.7, 0.2), (0.4, 0.8)], steps=8)
    draw(page, [(0.4, 0.5), (0.7, 0.5)], steps=8)
    frames(page)
    assert strokes() == [1], "one question is in flight, however much was drawn meanwhile"
    held[0].continue_()
    while len(held) < 2:
        frames(page)
    assert strokes() == [1, 3], "what lay between is left out"
    held[1].continue_()
    answered(page)
    final = strokes_of(held[1].request.post_data or "")
    assert shown_pixels(page) == digitized(service.processes, final)
    draw(page, [(0.3, 0.8), (0.6, 0.8)])
    while len(held) < 3:
        frames(page)
    assert strokes() == [1, 3, 4]
    page.keyboard.press("Escape")
    with page.expect_response(is_asking):
        held[2].continue_()
    frames(page)
    expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")
    assert sum(shown_pixels(page)) == 0, "an answer to what was cleared is not shown"
    assert "x=" not in page.url
    assert len(held) == 3


def test_why_is_one_request_of_65_images(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    draw(page, oval())
    answered(page)
    bodies = note_bodies(page)
    page.get_by_role("button", name="Why").click()
    expect(page.locator(".draw-seen")).to_contain_text("pixel by pixel")
    assert [len(json.loads(body)["instances"]) for body in bodies] == [65]
    assert "show=why" in page.url


def zero(size: tuple[int, int], paper: int, ink: int, noise: float = 0.0) -> Image.Image:
    """Return a photo of a 0: uneven light, soft edges, noise as a sensor has it."""
    width, height = size
    picture = Image.new("L", size, paper)
    x, y, side = width * 0.45, height * 0.5, min(size) * 0.3
    box = (x - 0.6 * side, y - side, x + 0.6 * side, y + side)
    ImageDraw.Draw(picture).ellipse(box, outline=ink, width=round(side * 0.25))
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 60)), np.float32)
    light = np.linspace(0.8, 1.1, width, dtype=np.float32)[None, :]
    grain = np.random.default_rng(18).normal(0, noise, (height, width)).astype(np.float32) if noise else 0
    return Image.fromarray(np.clip(pixels * light + grain, 0, 255).astype(np.uint8)).convert("RGB")


def drop(page: Page, file: Path) -> None:
    """Drop a file onto the pad, as a file manager does."""
    session = page.context.new_cdp_session(page)
    box = page.locator(".pad").bounding_box()
    assert box is not None
    at = {"x": box["x"] + 100, "y": box["y"] + 100}
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def expect_zero(page: Page) -> None:
    expect(page.locator(ANSWERED)).to_be_visible()
    answered(page)
    assert page.locator(".answer-digit").inner_text().startswith("0")
    pixels = np.array(shown_pixels(page)).reshape(8, 8)
    assert pixels[3:5, 3:5].sum() < pixels[:, 2:6].sum() / 8, "a hole in the middle"
    page.keyboard.press("Escape")
    expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")


def test_a_pasted_picture_and_dropped_photos_are_read(
    service: Service, open_page: WatchedPages, tmp_path: Path
) -> None:
    page, _ = open_page(service.address("draw"), permissions=["clipboard-read", "clipboard-write"])
    png = BytesIO()
    zero((200, 200), 255, 0).save(png, "PNG")
    page.evaluate(
        """async (text) => {
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          const item = new ClipboardItem({ "image/png": new Blob([bytes], { type: "image/png" }) });
          await navigator.clipboard.write([item]);
        }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    page.keyboard.press("Control+V")
    expect_zero(page)
    for name, paper, ink in (("paper", 225, 40), ("blackboard", 45, 215)):
        zero((1200, 900), paper, ink, noise=6).save(tmp_path / f"{name}.jpg", quality=85)
        drop(page, tmp_path / f"{name}.jpg")
        expect_zero(page)


def test_a_photo_of_20_megapixels_is_made_smaller_before_it_travels(
    service: Service, open_page: WatchedPages, tmp_path: Path
) -> None:
    zero(MEGAPIXELS_20, 225, 40, noise=8).save(tmp_path / "large.jpg", quality=90)
    assert (tmp_path / "large.jpg").stat().st_size > 5_000_000
    page, _ = open_page(service.address("draw"))
    with page.expect_response(re.compile(r"/predict$")) as asked:
        drop(page, tmp_path / "large.jpg")
    headers = asked.value.request.all_headers()
    assert headers["content-type"] == "image/jpeg"
    assert 0 < int(headers["content-length"]) < MAX_UPLOAD
    expect_zero(page)
    zero(MEGAPIXELS_20, 225, 40).convert("1", dither=Image.Dither.NONE).save(tmp_path / "plain.png")
    assert (tmp_path / "plain.png").stat().st_size < MAX_UPLOAD
    drop(page, tmp_path / "plain.png")
    expect_zero(page)


def test_a_text_is_refused_kindly_and_a_broken_picture_in_the_services_words(
    service: Service, open_page: WatchedPages, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("not a picture")
    zero((200, 200), 255, 0).save(tmp_path / "zero.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "zero.png").read_bytes()[:60])
    page, watched = open_page(service.address("draw"))
    draw(page, oval())
    answered(page)
    pixels = shown_pixels(page)
    drop(page, tmp_path / "text.txt")
    expect(page.locator(".toast")).to_have_text("That is no picture. PNG, JPEG, WebP, BMP and GIF can be read.")
    page.set_input_files("input[type=file]", tmp_path / "text.txt")
    expect(page.locator(".toast")).to_have_count(2)
    assert shown_pixels(page) == pixels, "the drawing stays"
    watched.expect(422, "/predict")
    page.set_input_files("input[type=file]", tmp_path / "broken.png")
    expect(page.locator(".answer-verdict")).to_have_text("No answer")
    refused = service.processes.client.post(
        "/predict", content=(tmp_path / "broken.png").read_bytes(), headers={"Content-Type": "image/png"}
    ).json()
    expect(page.locator(".draw-seen [role=alert]")).to_have_text(refused["detail"])
    page.set_input_files("input[type=file]", tmp_path / "zero.png")
    expect(page.locator(".draw-seen [role=alert]")).to_be_hidden()
    expect_zero(page)


def test_a_new_champion_answers_without_a_reload(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    page.evaluate("window.isSame = true")
    draw(page, oval())
    expect(page.locator(".draw-by")).to_contain_text("first model · champion")
    client = service.processes.client
    assert client.put("/models/champion", json={"run_id": service.other_id}).is_success
    try:
        expect(page.locator(".draw-by")).to_contain_text("narrow")
        expect(page.locator("#bar .answering")).to_contain_text("narrow")
        page.keyboard.press("Escape")
        with page.expect_response(re.compile(r"/predict$")) as asked:
            draw(page, [(0.5, 0.2), (0.5, 0.8)])
        answered(page)
        assert asked.value.json()["model"]["run_id"] == service.other_id
        expect(page.locator(".draw-by")).to_contain_text("narrow · champion")
    finally:
        assert client.delete("/models/champion").is_success
    expect(page.locator("#bar .answering")).to_contain_text("first model")
    assert page.evaluate("window.isSame"), "the page was not loaded anew"
