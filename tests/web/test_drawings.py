"""The first minutes of a new user: `digitlab up` on an empty folder, and 100 drawings before the model that it trains.

`drawings.json` was made by `make_drawings.py` and committed before any model saw one; it stays as it is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import children_of, free_port, wait_for
from tests.web.conftest import TRAINED_MS, WatchedPages, answered, draw, oval, shown_pixels

DRAWINGS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "drawings.json").read_text())
MAX_WRONG_AND_SURE = 6
MIN_SURE = 60
SHARE_OF_A_PIXEL = 0.003  # of the pad, which is more than 400 pixels high


@dataclass(frozen=True)
class Up:
    url: str
    started_at: float
    client: httpx2.Client
    worker: int  # its process group

    def let_train(self) -> None:
        """Let the worker go on, if it is stopped."""
        os.killpg(self.worker, signal.SIGCONT)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`digitlab up` on an empty folder, from the moment at which it answers. Its worker is stopped until `let_train`.

    A busy machine has its first model before it has a browser: a page would then have nothing to wait for.
    """
    folder, port = tmp_path_factory.mktemp("up"), str(free_port())
    environment = {**os.environ, "DIGITLAB_DATA_DIR": str(folder), "DIGITLAB_DEVICE": "cpu", "DIGITLAB_PORT": port}
    started_at = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "app.cli", "up"], env=environment, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: client.get("/health/live").is_success)
            _, worker = children_of(process.pid)  # `up` starts the API first
            os.killpg(worker, signal.SIGSTOP)
            up = Up(f"http://127.0.0.1:{port}", started_at, client, worker)
            yield up
            up.let_train()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "Traceback" not in (folder / "log").read_text()


def test_a_new_user_sees_what_is_trained_and_what_was_drawn_meanwhile_is_answered(
    up: Up, open_page: WatchedPages
) -> None:
    answers_at = time.monotonic()
    page, _ = open_page(up.url)
    stands_at = time.monotonic()
    expect(page.locator(".answer-verdict")).to_have_text("Training the first model")
    says_at = time.monotonic()
    draw(page, oval())
    drawn_at = time.monotonic()
    expect(page.locator(".draw-answer")).to_contain_text("What you drew stays")
    expect(page.locator("#bar .training")).to_contain_text(re.compile("1 (queued|training)"))
    up.let_train()
    expect(page.locator(".answer-digit")).to_have_text("0", timeout=TRAINED_MS)
    expect(page.locator(".draw-by")).to_contain_text("starter run · champion")
    expect(page.locator("#bar .answering")).to_contain_text("starter run")
    print(
        f"\n`digitlab up` answers after {answers_at - up.started_at:.2f} s; the page stands "
        f"{stands_at - answers_at:.2f} s later, says what is trained at {says_at - answers_at:.2f} s; "
        f"the drawing is answered {time.monotonic() - drawn_at:.1f} s after its end, "
        "until which the worker was stopped"
    )


def draw_all(page: Page, strokes: list[list[list[float]]]) -> None:
    for stroke in strokes:
        draw(page, [(x, y) for x, y in stroke], steps=1)


def is_as_drawn(sent: list[list[list[float]]], meant: list[list[list[float]]]) -> bool:
    """Whether the strokes that were sent are those of the file, but for the screen's pixels."""
    if [len(stroke) for stroke in sent] != [len(stroke) for stroke in meant]:
        return False
    pairs = [pair for a, b in zip(sent, meant, strict=True) for pair in zip(a, b, strict=True)]
    return all(abs(x0 - x1) <= SHARE_OF_A_PIXEL and abs(y0 - y1) <= SHARE_OF_A_PIXEL for (x0, y0), (x1, y1) in pairs)


def test_most_drawings_are_answered_surely_and_hardly_one_of_them_wrongly(up: Up, open_page: WatchedPages) -> None:
    up.let_train()
    wait_for(lambda: up.client.get("/models/champion").is_success)
    page, _ = open_page(f"{up.url}/#/draw")
    sent: list[Any] = []
    page.on(
        "request",
        lambda request: (
            sent.append(json.loads(request.post_data or ""))
            if request.url.endswith("/predict") and "strokes" in (request.post_data or "")
            else None
        ),
    )
    found = []
    for drawing in DRAWINGS:
        page.keyboard.press("Escape")
        draw_all(page, drawing["strokes"])
        answered(page)
        strokes = sent[-1]["strokes"][0]
        assert is_as_drawn(strokes, drawing["strokes"]), drawing["kind"]
        answer = up.client.post("/digitize", json={"strokes": [strokes]}).json()
        assert shown_pixels(page) == [pixel for row in answer["pixels"][0] for pixel in row]
        verdict = page.locator(".draw-answer").get_attribute("data-state")
        digit = page.locator(".answer-digit").inner_text()
        found.append((drawing["kind"], drawing["label"], verdict, digit))
    assert len(found) == 100
    print(report(found))
    sure = [(label, digit) for _, label, verdict, digit in found if verdict == "sure"]
    assert sum(str(label) != digit for label, digit in sure) <= MAX_WRONG_AND_SURE
    assert len(sure) >= MIN_SURE


def report(found: list[tuple[str, int, str | None, str]]) -> str:
    """Write how each kind was answered; the digit of an unsure answer is the likelier of its two."""
    lines = [f"\n{'kind':<28}drawings  sure  right  wrong and sure"]
    total: Counter[str] = Counter()
    for kind, drawings in groupby(found, key=lambda each: each[0]):
        count: Counter[str] = Counter()
        wrong = []
        for _, label, verdict, digit in drawings:
            is_sure, is_right = verdict == "sure", digit[:1] == str(label)
            count.update({"all": 1, "sure": is_sure, "right": is_right, "wrong": is_sure and not is_right})
            if not is_right or not is_sure:
                wrong.append(f"{label}: {digit.replace(chr(10), ' ')} ({verdict})")
        total.update(count)
        lines.append(row(kind, count) + "  " + ", ".join(wrong))
    return "\n".join([*lines, row("all", total)])


def row(name: str, count: Counter[str]) -> str:
    return f"{name:<28}{count['all']:>8}  {count['sure']:>4}  {count['right']:>5}  {count['wrong']:>14}"
