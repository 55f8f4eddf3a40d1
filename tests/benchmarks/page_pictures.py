"""Makes the pictures of docs/page.md anew: run by hand, in the repository's root, about two minutes.

    python -m tests.benchmarks.page_pictures

It starts `digitlab up` on an empty database, trains presets, and takes pictures of the page with the installed
Chromium, into `docs/pictures`. Texts are in the font that the system calls `system-ui`.
"""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from tests.benchmarks.pictures import FOLDER, train
from tests.benchmarks.sweep import run_sweep, serve
from tests.browser import find_browser
from tests.drawings import strokes

SIZE: ViewportSize = {"width": 1280, "height": 800}
MAX_BYTES = 150_000
COLOURS = (256, 128, 64)  # the most with which a picture is small enough
SETTLED_MS = 1500
RUNS = ("handwriting", "defaults", "minibatch-sigmoid", "forest-baseline")
DIGIT = 3


def save(page: Page, name: str) -> int:
    """Take a picture of what is in sight and keep it with few colours; returns its size in bytes."""
    page.wait_for_timeout(SETTLED_MS)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    file = FOLDER / f"page-{name}.png"
    for colours in COLOURS:
        picture.quantize(colours, dither=Image.Dither.NONE).save(file, optimize=True)
        if file.stat().st_size <= MAX_BYTES:
            return file.stat().st_size
    raise SystemExit(f"{file} has {file.stat().st_size:,} bytes.")


def submit(client: httpx2.Client, document: dict[str, Any]) -> str:
    """A run's id, once it has succeeded."""
    run_id: str = client.post("/runs", json=document).raise_for_status().json()["id"]
    client.get(f"/runs/{run_id}/events/stream", timeout=600)  # ends with the run
    status = client.get(f"/runs/{run_id}").json()["status"]
    if status != "succeeded":
        raise SystemExit(f"{document['name']} is {status}.")
    return run_id


def draw(page: Page, digit: int) -> None:
    """Draw a digit on the pad with the mouse, and wait for its answer."""
    box = page.locator(".pad").bounding_box()
    assert box is not None, "Draw shows its pad"
    lines = strokes(digit + 1)[digit]
    xs, ys = zip(*(point for line in lines for point in line), strict=True)
    scale = 0.72 * box["height"] / (max(ys) - min(ys))
    for line in lines:
        for number, (x, y) in enumerate(line):
            right, down = x - (min(xs) + max(xs)) / 2, y - (min(ys) + max(ys)) / 2
            page.mouse.move(
                box["x"] + box["width"] / 2 + right * scale, box["y"] + box["height"] / 2 + down * scale, steps=2
            )
            if number == 0:
                page.mouse.down()
        page.mouse.up()
    page.wait_for_selector(".draw-answer[data-state=sure], .draw-answer[data-state=unsure]")


def look(client: httpx2.Client, page: Page) -> int:
    """Train, and take the five pictures; returns their size in bytes."""
    for preset in RUNS:
        train(client, preset)
    dropout = {"preset": "dropout-tanh", "training": {"snapshots": 16}}
    without = submit(client, {**dropout, "name": "dropout-tanh, no dropout", "model": {"dropout": 0.0}})
    run_id = submit(client, {**dropout, "name": "dropout-tanh"})
    _, sweep = run_sweep(client, {"preset": "practice"})
    base = str(client.base_url).rstrip("/")
    page.goto(f"{base}/#/draw")
    page.wait_for_selector("html[data-ready=draw]")
    draw(page, DIGIT)
    total = save(page, "draw")
    views = {
        "train": f"train?preset=dropout-tanh&run={run_id}&ghost={without}",
        "run": f"runs/{run_id}",
        "sweep": f"sweeps/{sweep['id']}",
        "models": f"models?against={without}",
    }
    for name, fragment in views.items():
        page.goto(f"{base}/#/{fragment}")
        page.wait_for_selector(f"html[data-ready={name}]")
        page.mouse.move(SIZE["width"] / 2, 20)  # onto the bar, so that nothing is lit
        total += save(page, name)
    return total


def main() -> None:
    executable = find_browser()
    if executable is None:
        raise SystemExit("There is no Chromium.")
    with (
        TemporaryDirectory(prefix="digitlab-page-") as folder,
        serve(Path(folder)) as client,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
        total = look(client, page)
        browser.close()
    print(f"{total:,} bytes in {FOLDER}")


if __name__ == "__main__":
    main()
