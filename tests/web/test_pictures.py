"""The page as it was when its pictures were taken: `#/states` and Draw, both themes, two widths.

    python -m tests.web.test_pictures

takes the pictures anew. They are bound to DejaVu, a font of the same outlines in every Debian; what Chromium 150 and
156 draw otherwise is half of what may differ. Data are stored and clocks stand still.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.conftest import insert_model
from tests.e2e.conftest import Processes
from tests.graphs import graph_answering, random_graph

FOLDER = Path(__file__).parent / "pictures"
REDRAW = "DIGITLAB_REDRAW"
FONTS = {"--font": '"DejaVu Sans"', "--mono": '"DejaVu Sans Mono"'}
FONT_FOLDER = Path("/usr/share/fonts/truetype/dejavu")
FONT_FILES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf")
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
HALF = 2  # pictures are stored and compared at half their size: the edges of letters count for less, and bytes too
COLOURS = 128
NEAR = 32  # of 255: a channel that differs by less does not differ; the stored colours are as far off
MAX_SHARE = 0.0003  # of all pixels may differ: a missing line is more
# A 3, painted into the 8×8 pixels: a character each.
DIGIT = "00agggg000gg00gg000000gg0000ggg0000000gg000000gg0gg00gg000agggg0"
VIEWS = {"states": "states", "draw": f"draw?x={DIGIT}"}


def require_font() -> None:
    """Skip a test without the font; CI installs it."""
    if not all((FONT_FOLDER / each).is_file() for each in FONT_FILES):
        reason = "fonts-dejavu-core is not installed"
        assert "CI" not in os.environ, reason
        pytest.skip(reason)


@pytest.fixture
def frozen(idle_service: Processes) -> Processes:
    """A service whose models are stored graphs: it answers alike everywhere."""
    graphs = {"champion": random_graph(3), "another": graph_answering(3), "a third": graph_answering(8)}
    for number, (name, graph) in enumerate(graphs.items()):
        insert_model(idle_service.database, 0.99 - number / 100, graph, name=name)
    idle_service.start_api()
    return idle_service


def take(page: Page, url: str, view: str) -> Image.Image:
    """Take a picture of a whole view in the pinned fonts, without what blinks."""
    page.clock.set_fixed_time(NOON)
    page.goto(f"{url}/#/{VIEWS[view]}")
    page.wait_for_selector(f"html[data-ready={view}]")
    for name, font in FONTS.items():  # by the CSSOM: the page's policy forbids a style sheet of ours
        page.evaluate("([name, font]) => document.documentElement.style.setProperty(name, font)", [name, font])
    if view == "draw":
        expect(page.locator(".draw-by a")).to_have_text("champion")
        expect(page.locator(".draw-by .star")).to_be_visible()  # it is known to be the champion
        expect(page.locator(".opinions a")).to_have_text(["another", "a third"])
    page.locator(".banners .banner").wait_for()  # no worker is alive
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled", scale="css")))
    return picture.convert("RGB").reduce(HALF)


def difference(shown: Image.Image, expected: Image.Image) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which pixels differ."""
    first, second = (np.asarray(each, np.int16) for each in (shown, expected))
    found: np.ndarray[Any, np.dtype[np.bool_]] = np.abs(first - second).max(axis=2) > NEAR
    return found


def store(picture: Image.Image, file: Path) -> None:
    picture.quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)


def read(file: Path) -> Image.Image:
    with Image.open(file) as stored:
        return stored.convert("RGB")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_the_view_looks_as_in_its_picture(
    frozen: Processes, browser: Browser, tmp_path: Path, view: str, theme: str, width: int
) -> None:
    require_font()
    file = FOLDER / f"{view}-{theme}-{width}.png"
    with browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="light" if theme == "light" else "dark",
        reduced_motion="reduce",
        has_touch=width < 600,
        device_scale_factor=1,
        locale="en-GB",
        timezone_id="UTC",
    ) as context:
        page = context.new_page()
        shown = take(page, f"http://127.0.0.1:{frozen.port}", view)
    if REDRAW in os.environ:
        FOLDER.mkdir(exist_ok=True)
        store(shown, file)
    expected = read(file)
    assert shown.size == expected.size
    differs = difference(shown, expected)
    if differs.mean() > MAX_SHARE:
        shown.save(tmp_path / "shown.png")
        Image.fromarray((differs * 255).astype(np.uint8)).save(tmp_path / "differs.png")
    assert differs.mean() <= MAX_SHARE, f"{differs.mean():.2%} of the pixels differ: see {tmp_path}"


def test_the_pictures_are_small() -> None:
    files = sorted(FOLDER.glob("*.png"))
    assert len(files) == 8
    assert sum(each.stat().st_size for each in files) <= 150_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_missing_line_and_a_shift_by_a_pixel_are_found(theme: str) -> None:
    stored = read(FOLDER / f"states-{theme}-1280.png")
    assert not difference(stored, stored).any()
    shifted = Image.fromarray(np.roll(np.asarray(stored), 1, axis=0))
    assert difference(shifted, stored).mean() > 10 * MAX_SHARE
    box = (90, 141, 227, 163)  # around two lines of text
    pixels = np.asarray(stored).copy()
    pixels[box[1] : box[3], box[0] : box[2]] = pixels[box[1], box[0]]
    assert difference(Image.fromarray(pixels), stored).mean() > MAX_SHARE


def main() -> None:
    """Take all pictures anew."""
    environment = {**os.environ, REDRAW: "1"}
    tests = [__file__, "-k", "looks_as_in_its_picture"]
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], env=environment)
    total = sum(each.stat().st_size for each in FOLDER.glob("*.png"))
    print(f"{total:,} bytes in {FOLDER}")
    raise SystemExit(result.returncode)


if __name__ == "__main__":
    main()
