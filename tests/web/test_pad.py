"""The pad when two things happen at once: keys with the pen down, two fingers, slow pictures, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.web.conftest import Service, Watched, WatchedPages, answered, draw, frames, oval

SETTLED_MS = 600  # a picture that is ready has been sent by then

# Holds the decoding of pictures back until `release()` is called.
HOLD_PICTURES = """() => {
  const decode = createImageBitmap;
  const held = new Promise((done) => (window.release = done));
  window.createImageBitmap = (file) => held.then(() => decode(file));
}"""


def kept(page: Page) -> list[dict[str, Any]]:
    """Return the digits that the page has kept, the newest first."""
    entries: list[dict[str, Any]] = json.loads(page.evaluate("localStorage.getItem('digitlab-digits') ?? '[]'"))
    return entries


def large_photo(folder: Path) -> Path:
    noise = np.random.default_rng(18).integers(0, 255, (1200, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "large.jpg", quality=95)
    assert (folder / "large.jpg").stat().st_size > 700_000, "it is made smaller before it travels"
    return folder / "large.jpg"


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the pad, in units of its height, lies in the window."""
    box = page.locator(".pad").bounding_box()
    assert box is not None
    return box["x"] + (box["width"] - box["height"]) / 2 + x * box["height"], box["y"] + y * box["height"]


def forget_failures(watched: Watched) -> None:
    watched.found[:] = [each for each in watched.found if "ERR_FAILED" not in each]


def test_keys_while_the_pen_is_down_lose_no_part_of_the_stroke_and_mix_no_two(
    service: Service, open_page: WatchedPages
) -> None:
    page, _ = open_page(service.address("draw"))

    def stroke_with(key: str) -> None:
        """Draw from the top to the bottom at x = 0.7, and press a key half way."""
        page.mouse.move(*place(page, 0.7, 0.1))
        page.mouse.down()
        page.mouse.move(*place(page, 0.7, 0.4), steps=3)
        answered(page)
        page.keyboard.press(key)
        page.mouse.move(*place(page, 0.7, 0.9), steps=3)
        page.mouse.up()
        answered(page)

    stroke_with("Escape")
    ((rest,),) = [entry["strokes"] for entry in kept(page)]
    assert (rest[0][1] > 0.5, rest[-1][1]) == (True, 0.9), "what was drawn after Esc, and that alone"
    page.keyboard.press("Escape")
    draw(page, [(0.3, 0.1), (0.3, 0.9)])
    answered(page)
    stroke_with("z")
    first, rest = kept(page)[0]["strokes"]
    assert ([x for x, _ in first], first[-1][1]) == ([0.3] * len(first), 0.9), "the stroke before stays as it was"
    assert (rest[0][1] > 0.5, rest[-1][1]) == (True, 0.9)
    page.keyboard.press("Escape")
    stroke_with("7")
    newest, labelled = kept(page)[:2]
    assert (labelled["label"], "label" in newest) == (7, False)
    assert [(stroke[0][1] > 0.5, stroke[-1][1]) for stroke in newest["strokes"]] == [(True, 0.9)]


def test_a_second_finger_neither_draws_nor_takes_the_first_ones_stroke_and_a_pen_takes_over(
    service: Service, open_page: WatchedPages
) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    page, _ = open_page(service.address("draw"), **phone)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [place(page, *point) for point in points]
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    palm = (0.9, 0.8)
    touch("touchStart", (0.5, 0.1))
    for step in range(1, 5):
        touch("touchMove", (0.5, 0.1 + step / 10))
    touch("touchStart", (0.5, 0.5), palm)
    for step in range(5, 9):
        touch("touchMove", (0.5, 0.1 + step / 10), palm)
    touch("touchEnd")
    answered(page)
    ((stroke,),) = [entry["strokes"] for entry in kept(page)]
    assert {x for x, _ in stroke} == {0.5}
    assert abs(stroke[-1][1] - 0.9) < 0.01
    page.get_by_role("button", name="Clear").tap()
    touch("touchStart", palm)
    pen = {"button": "left", "pointerType": "pen", "clickCount": 1}
    for kind, height in (("mousePressed", 0.1), ("mouseMoved", 0.5), ("mouseMoved", 0.9), ("mouseReleased", 0.9)):
        x, y = place(page, 0.5, height)
        session.send("Input.dispatchMouseEvent", {**pen, "type": kind, "x": x, "y": y, "buttons": int(kind[5] != "R")})
    touch("touchEnd")
    answered(page)
    ((stroke,), _) = [entry["strokes"] for entry in kept(page)]
    assert [x for x, _ in stroke] == [0.5] * len(stroke), "a pen takes over from the palm, whose stroke goes"
    assert [y for _, y in stroke][:: len(stroke) - 1] == [0.1, 0.9]


def test_the_latest_action_wins_over_a_picture_that_takes_long(
    service: Service, open_page: WatchedPages, tmp_path: Path
) -> None:
    page, _ = open_page(service.address("draw"))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.headers["content-type"]) if request.post_data else None)
    for leave in (False, True):
        page.evaluate(HOLD_PICTURES)
        page.set_input_files("input[type=file]", large_photo(tmp_path))
        if leave:
            page.locator(".nav a", has_text="Models").click()
            page.wait_for_selector("html[data-ready=models]")
        else:
            draw(page, oval())
            answered(page)
        address = page.url
        page.evaluate("release()")
        page.wait_for_timeout(SETTLED_MS)
        assert page.url == address
        assert "image/jpeg" not in sent
    assert address.endswith("#/models")


def test_a_question_that_fails_after_the_pad_was_cleared_says_nothing(
    service: Service, open_page: WatchedPages
) -> None:
    page, watched = open_page(service.address("draw"))
    held: list[Route] = []
    page.route(re.compile(r"/predict$"), lambda route: held.append(route))
    draw(page, oval())
    while not held:
        frames(page)
    page.keyboard.press("Escape")
    with page.expect_event("requestfailed"):
        held[0].abort()
    frames(page)
    expect(page.locator(".answer-verdict")).to_have_text("Nothing to answer yet")
    forget_failures(watched)


def test_a_view_that_was_left_writes_into_no_other_address(service: Service, open_page: WatchedPages) -> None:
    page, _ = open_page(service.address("draw"))
    held: list[Route] = []

    def leave() -> None:
        page.locator(".nav a", has_text="Models").click()
        page.wait_for_selector("html[data-ready=models]")

    def settle() -> None:
        page.wait_for_timeout(SETTLED_MS)
        assert page.url == f"{service.url}/#/models"

    page.route(re.compile(r"/predict$"), lambda route: route.continue_() if held else held.append(route))
    draw(page, oval())
    while not held:
        frames(page)
    leave()
    answers: list[str] = []
    page.on("response", lambda response: answers.append(response.url) if "/predict" in response.url else None)
    held[0].continue_()
    while len(answers) < 2:  # to the stroke as it was first asked about, and to all of it
        frames(page)
    settle()
    page.goto(service.address("train"))
    page.wait_for_selector("html[data-ready=train]")
    expect(page.locator(".live .status")).to_contain_text("trained in")
    page.get_by_role("button", name="Play the training again").click()
    leave()
    settle()
    streams: list[str] = []
    page.on("request", lambda request: streams.append(request.url) if "/events/stream" in request.url else None)
    page.goto(f"{service.url}/#/train?preset=defaults&training.epochs=2&model.hidden_sizes=5")
    expect(page.locator(".plan")).to_contain_text("parameters")
    submitted: list[Route] = []
    page.route(re.compile(r"/runs$"), lambda route: submitted.append(route))
    page.locator(".start").click()
    while not submitted:
        frames(page)
    leave()
    with page.expect_response(re.compile(r"/runs$")) as answer:
        submitted[0].continue_()
    settle()
    run_id = answer.value.json()["id"]
    assert [url for url in streams if run_id in url] == [], "a run that no view shows is not watched"
    service.processes.finish(run_id)
    assert service.processes.client.delete(f"/runs/{run_id}").is_success
