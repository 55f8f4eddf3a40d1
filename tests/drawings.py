"""Pictures for tests and benchmarks: digits as different kinds of pictures, strokes of digits, and what is no digit.

Everything is drawn by a generator with a fixed seed, so a picture is the same in every run. A picture is bytes of a
file; an image is uint8, height × width, 0 (no ink) to 255.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Point = list[float]
Strokes = list[list[Point]]
Ink = npt.NDArray[np.uint8]

CANVAS = 280
PENS = (0.075, 0.1, 0.125, 0.15)  # widths as shares of a digit's height
OVERSAMPLING = 4  # strokes are drawn larger and reduced, since Pillow's lines have hard edges

# Each stroke is a few points of a unit square, y downwards; `_smooth` draws a curve through them.
_OUTLINES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0.5, 0), (0.12, 0.18), (0.02, 0.5), (0.15, 0.85), (0.5, 1), (0.85, 0.82), (0.98, 0.5), (0.85, 0.15),
         (0.5, 0)]],
    1: [[(0.2, 0.2), (0.5, 0), (0.5, 0.35), (0.5, 0.7), (0.5, 1)]],
    2: [[(0.08, 0.25), (0.3, 0.02), (0.75, 0.05), (0.85, 0.3), (0.5, 0.65), (0.05, 0.98), (0.5, 0.96), (0.95, 0.95)]],
    3: [[(0.1, 0.08), (0.6, 0), (0.85, 0.22), (0.6, 0.45), (0.35, 0.48), (0.7, 0.52), (0.92, 0.75), (0.6, 1),
         (0.05, 0.92)]],
    4: [[(0.5, 0), (0.25, 0.35), (0.02, 0.66), (0.5, 0.65), (0.98, 0.63)], [(0.7, 0.3), (0.7, 0.65), (0.68, 1)]],
    5: [[(0.9, 0.02), (0.5, 0.03), (0.2, 0.05), (0.15, 0.25), (0.12, 0.45)],
        [(0.12, 0.45), (0.5, 0.38), (0.88, 0.6), (0.75, 0.92), (0.4, 1), (0.05, 0.93)]],
    6: [[(0.75, 0), (0.35, 0.25), (0.1, 0.6), (0.2, 0.92), (0.55, 1), (0.88, 0.8), (0.75, 0.52), (0.4, 0.5),
         (0.12, 0.7)]],
    7: [[(0.02, 0.05), (0.45, 0.03), (0.95, 0.03), (0.7, 0.4), (0.5, 0.7), (0.38, 1)]],
    8: [[(0.85, 0.15), (0.5, 0), (0.15, 0.18), (0.4, 0.42), (0.85, 0.7), (0.6, 0.98), (0.2, 0.92), (0.15, 0.68),
         (0.6, 0.42), (0.85, 0.15)]],
    9: [[(0.88, 0.2), (0.5, 0), (0.12, 0.2), (0.25, 0.47), (0.65, 0.42), (0.88, 0.18), (0.85, 0.5), (0.75, 1)]],
}  # fmt: skip


def to_png(image: Ink) -> bytes:
    """Encode an image (2-D: grey, 3-D: RGBA) as a PNG."""
    return _encode(Image.fromarray(image), "PNG")


def on_canvas(image: Ink) -> bytes:
    """Draw a digit of white ink as a web page's canvas would have it: 280 × 280, black on white, as a PNG."""
    return to_png(255 - _enlarge(image))


def _on_black(image: Ink) -> bytes:
    return to_png(_enlarge(image))


def _on_transparent(image: Ink) -> bytes:
    enlarged = _enlarge(image)
    return to_png(np.dstack([np.zeros((*enlarged.shape, 3), np.uint8), enlarged]))


def _as_jpeg(image: Ink) -> bytes:
    return _encode(Image.fromarray(255 - _enlarge(image)), "JPEG")


KINDS: dict[str, Callable[[Ink], bytes]] = {
    "280×280, white on black": _on_black,
    "280×280, black on transparent": _on_transparent,
    "280×280, JPEG": _as_jpeg,
    "28×28, white on black": to_png,
}


def _enlarge(image: Ink) -> Ink:
    return np.asarray(Image.fromarray(image).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC))


def strokes(number: int, seed: int = 0) -> list[Strokes]:
    """Draw strokes of digits 0, 1, … 9, 0, … in units of about 100, each stretched, slanted and shaken a little."""
    draw = np.random.default_rng(seed)
    return [_shake(_OUTLINES[each % 10], draw) for each in range(number)]


def _shake(outlines: Sequence[Sequence[tuple[float, float]]], draw: np.random.Generator) -> Strokes:
    width, height, slant = draw.uniform(45, 80), draw.uniform(85, 120), draw.uniform(-0.25, 0.25)
    found = []
    for outline in outlines:
        points = np.array(outline) + draw.normal(0, 0.015, (len(outline), 2))
        x, y = _smooth(points).T
        found.append(np.stack([width * (x - slant * y) + 60, height * y + 40], axis=1).round(2).tolist())
    return found


def _smooth(points: npt.NDArray[np.float64], steps: int = 8) -> npt.NDArray[np.float64]:
    """Catmull-Rom spline through the points (N × 2): (N - 1) · steps + 1 points."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        parts.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )
    return np.vstack([*parts, points[-1:]])


def draw_strokes(lines: Strokes, pen: float, size: int = CANVAS) -> bytes:
    """Draw strokes with a round pen, black on white, as a PNG.

    Args:
        lines: Strokes of points, as in a request.
        pen: The pen's width, as a share of the strokes' height.
        size: Height and width of the picture, in pixels.
    """
    points = np.vstack([np.array(line, float) for line in lines])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 0.7 * size / max(high - low) * OVERSAMPLING
    width = pen * (high - low)[1] * scale
    picture = Image.new("L", (size * OVERSAMPLING, size * OVERSAMPLING), 255)
    canvas = ImageDraw.Draw(picture)
    middle = size * OVERSAMPLING / 2
    for line in lines:
        at = [tuple(point) for point in (np.array(line, float) - (low + high) / 2) * scale + middle]
        canvas.line(at, fill=0, width=round(width))
        for x, y in at:
            canvas.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=0)
    return _encode(picture.resize((size, size), Image.Resampling.BOX), "PNG")


def blanks(number: int = 20) -> list[bytes]:
    """Pictures of one colour."""
    return [to_png(np.full((CANVAS, CANVAS), level, np.uint8)) for level in np.linspace(0, 255, number).astype(int)]


def noise(number: int = 1000, seed: int = 0) -> list[bytes]:
    """Uniform noise at different sizes: 8 to 64 pixels, enlarged to 64."""
    draw = np.random.default_rng(seed)
    found = []
    for each in range(number):
        side = (8, 16, 32, 64)[each % 4]
        pixels = draw.integers(0, 256, (side, side)).astype(np.uint8)
        found.append(to_png(np.asarray(Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC))))
    return found


def dots(number: int = 100, seed: int = 0) -> list[bytes]:
    """A round dot of 2 to 40 pixels somewhere on a canvas."""
    return [_filled("ellipse", 2, 40, draw) for draw in np.random.default_rng(seed).spawn(number)]


def squares(number: int = 100, seed: int = 0) -> list[bytes]:
    """A filled square of 40 to 200 pixels."""
    return [_filled("rectangle", 40, 200, draw) for draw in np.random.default_rng(seed).spawn(number)]


def _filled(kind: str, low: int, high: int, draw: np.random.Generator) -> bytes:
    picture, side = Image.new("L", (CANVAS, CANVAS), 255), int(draw.integers(low, high))
    x, y = (int(value) for value in draw.integers(5, CANVAS - side - 5, 2))
    getattr(ImageDraw.Draw(picture), kind)([x, y, x + side, y + side], fill=0)
    return _encode(picture, "PNG")


LETTERS = "ABCDEFGHJKLMNPQRTUVWXYabdefghjkmnpqrtuy"  # without those that look like a digit


def letters(sizes: Sequence[int] = (60, 120, 200)) -> list[bytes]:
    """Printed letters."""
    found = []
    for size in sizes:
        font = ImageFont.load_default(size)
        for letter in LETTERS:
            picture = Image.new("L", (CANVAS, CANVAS), 255)
            ImageDraw.Draw(picture).text((CANVAS // 2, CANVAS // 2), letter, fill=0, font=font, anchor="mm")
            found.append(_encode(picture, "PNG"))
    return found


def scribbles(number: int = 200, seed: int = 0) -> list[bytes]:
    """Smooth random curves of 8 to 20 points, drawn by a pen of a tenth of their height."""
    found = []
    for draw in np.random.default_rng(seed).spawn(number):
        points = draw.uniform(0, 100, (int(draw.integers(8, 21)), 2))
        found.append(draw_strokes([_smooth(points).tolist()], 0.1))
    return found


def to_photo(picture: bytes, seed: int = 0) -> bytes:
    """Make a drawing look photographed: uneven light from one side, a soft shadow, grain, as a JPEG."""
    draw = np.random.default_rng(seed)
    image = np.asarray(Image.open(BytesIO(picture)).convert("L"), float) / 255
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] / max(image.shape)
    angle = draw.uniform(0, 2 * math.pi)
    light = 0.75 + 0.35 * (math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5))
    paper = light * (0.35 + 0.6 * image) + draw.normal(0, 0.015, image.shape)
    return _encode(Image.fromarray((255 * paper.clip(0, 1)).astype(np.uint8)), "JPEG")


def _encode(picture: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()
