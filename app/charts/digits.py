"""Draws a sheet of digits, each with a caption, such as the true and the predicted digit."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.charts.labels import printable
from app.charts.style import MARGIN, head_sheet, pixel_sheet, settings, to_bytes

MAX_IMAGES = 120
WIDTH = 1400  # pixels, like the sizes below; the largest width of a full sheet
MIN_WIDTH = 620
HEADER = 48
LINE = 16
LETTER = 7
GAP = 16
MAX_CAPTION_LINES, MAX_CAPTION_LETTERS = 3, 24


def draw(data: dict[str, Any]) -> bytes:
    """Draw the sheet, as large as its digits need.

    Args:
        data: `format`, `title`, `note` and `images`, each with `pixels` (8×8, from 0 to 16) and a `caption` of lines.
    """
    with settings():
        return to_bytes(_figure(data), data["format"], data["title"])


def _figure(data: dict[str, Any]) -> Figure:
    images = data["images"][:MAX_IMAGES]
    note = data["note"]
    if len(images) < len(data["images"]):
        note += f" (the first {MAX_IMAGES} of {len(data['images'])})"
    captions = [_caption(image["caption"]) for image in images]
    longest = max((len(line) for caption in captions for line in caption), default=0)
    size = 96 if len(images) <= 24 else 72 if len(images) <= 60 else 56
    pitch = max(size, LETTER * longest) + GAP
    columns = max(1, min(len(images), (WIDTH - 2 * MARGIN) // pitch))
    rows = -(-len(images) // columns)
    columns = -(-len(images) // rows) if rows else 1  # makes the last row as full as the others
    row_height = size + LINE * max(map(len, captions), default=0) + GAP + 4
    width = max(MIN_WIDTH, 2 * MARGIN + columns * pitch)
    lines = textwrap.wrap(printable(note, 1000), (width - 2 * MARGIN) // LETTER)
    header = HEADER + 18 * len(lines)
    figure, axes = pixel_sheet(width, header + max(rows * row_height, 100) + MARGIN // 2)
    head_sheet(axes, data["title"], "\n".join(lines))
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = MARGIN + place % columns * pitch, header + place // columns * row_height
        _draw_digit(axes, image["pixels"], left + (pitch - GAP - size) // 2, top, size, "\n".join(caption))
    if not images:
        axes.text(width / 2, header + 40, "none", ha="center", va="center", fontsize=13)
    return figure


def _caption(text: str) -> list[str]:
    return [printable(line, MAX_CAPTION_LETTERS) for line in text.splitlines()[:MAX_CAPTION_LINES]]


def _draw_digit(axes: Axes, pixels: Any, x: int, y: int, size: int, caption: str) -> None:
    extent = (x, x + size, y + size, y)
    values = np.array(pixels, dtype=float).reshape(8, 8)
    axes.imshow(values, cmap="gray", vmin=0, vmax=16, extent=extent, aspect="auto", interpolation="none")
    axes.text(x + size / 2, y + size + 4, caption, ha="center", va="top", fontsize=9, linespacing=1.25)
