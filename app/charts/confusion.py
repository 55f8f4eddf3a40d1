"""Draws a confusion matrix: counts, and shares of each true digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from app.charts.style import INK, head_sheet, pixel_sheet, settings, to_bytes

WIDTH, HEIGHT = 1400, 716  # pixels, like the sizes below
CELL = 50
TOP = 138
LEFT_OF_COUNTS, LEFT_OF_SHARES = 110, 840
MARGIN_GAP = 8
RECALL_WIDTH, PRECISION_HEIGHT = 58, 34
EXPONENT = 0.4  # this makes one error among a hundred visible


def draw(data: dict[str, Any]) -> bytes:
    """Draw the picture, 1400 × 716 pixels.

    Args:
        data: `format`, `title`, `counts` and `normalized` (a row for each true digit, a column for each predicted one),
            `precision` and `recall` (per digit, null where there is none).
    """
    with settings():
        return to_bytes(_figure(data), data["format"], data["title"])


def _figure(data: dict[str, Any]) -> Figure:
    figure, axes = pixel_sheet(WIDTH, HEIGHT)
    counts, shares = np.array(data["counts"], dtype=float), np.array(data["normalized"], dtype=float)
    head_sheet(axes, data["title"], _facts(counts))
    _draw_map(axes, counts, LEFT_OF_COUNTS, "Counts", _count)
    _draw_map(axes, shares, LEFT_OF_SHARES, "Shares of each true digit (%)", _percent)
    _draw_recall(axes, data["recall"])
    _draw_precision(axes, data["precision"])
    axes.text(LEFT_OF_SHARES, HEIGHT - 52, "blue: right   orange: wrong", va="center")
    axes.text(LEFT_OF_SHARES, HEIGHT - 32, "colours grow fast from zero, so that single errors show", va="center")
    return figure


def _facts(counts: np.ndarray) -> str:
    total, right = counts.sum(), np.trace(counts)
    if not total:
        return "no digits"
    return f"{total:,.0f} digits · {total - right:,.0f} wrong · accuracy {100 * right / total:.2f} %"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e5 else f"{value:.0e}".replace("e+0", "e")


def _percent(share: float) -> str:
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f}"
    return "<0.1" if percent < 0.05 else f"{min(percent, 99.9):.1f}"


def _draw_map(axes: Axes, values: np.ndarray, left: int, title: str, label: Callable[[float], str]) -> None:
    side = 10 * CELL
    axes.text(left, TOP - 58, title, fontweight="bold", fontsize=10.5, va="center")
    axes.text(left + side / 2, TOP - 34, "predicted digit", ha="center", va="center")
    axes.text(left - 42, TOP + side / 2, "true digit", ha="center", va="center", rotation="vertical")
    colours = _colours(values)
    extent = (left, left + side, TOP + side, TOP)
    axes.imshow(colours, extent=extent, aspect="auto", interpolation="none")
    axes.add_patch(Rectangle((left, TOP), side, side, fill=False, edgecolor="#BBBBBB", linewidth=0.8))
    for digit in range(10):
        middle = (digit + 0.5) * CELL
        axes.text(left + middle, TOP - 13, str(digit), ha="center", va="center", fontsize=10)
        axes.text(left - 15, TOP + middle, str(digit), ha="center", va="center", fontsize=10)
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            left + (column + 0.5) * CELL,
            TOP + (row + 0.5) * CELL,
            text := label(value),
            color=_text_colour(value, colours[row, column]),
            fontsize=10 if len(text) < 6 else 8.5,
            ha="center",
            va="center",
        )


def _colours(values: np.ndarray) -> np.ndarray:
    """Return the RGB of each cell: white for zero, and a colour whose strength grows fastest for small values."""
    strength = 0.12 + 0.76 * (values / (values.max() or 1)) ** EXPONENT
    is_right = np.eye(10, dtype=bool)[..., np.newaxis]
    colours = np.where(is_right, colormaps["Blues"](strength), colormaps["Oranges"](strength))[..., :3]
    return np.where(values[..., np.newaxis] > 0, colours, 1.0)


def _text_colour(value: float, background: np.ndarray) -> str:
    if not value:
        return "#A0A0A0"
    return INK if background @ (0.299, 0.587, 0.114) > 0.55 else "white"


def _draw_recall(axes: Axes, recall: Sequence[float | None]) -> None:
    left = LEFT_OF_COUNTS + 10 * CELL + MARGIN_GAP
    axes.text(left + RECALL_WIDTH / 2, TOP - 13, "recall (%)", ha="center", va="center")
    for digit, value in enumerate(recall):
        _draw_margin(axes, value, left, TOP + digit * CELL, RECALL_WIDTH, CELL)


def _draw_precision(axes: Axes, precision: Sequence[float | None]) -> None:
    top = TOP + 10 * CELL + MARGIN_GAP
    axes.text(LEFT_OF_COUNTS - 8, top + PRECISION_HEIGHT / 2, "precision (%)", ha="right", va="center")
    for digit, value in enumerate(precision):
        _draw_margin(axes, value, LEFT_OF_COUNTS + digit * CELL, top, CELL, PRECISION_HEIGHT)


def _draw_margin(axes: Axes, value: float | None, x: int, y: int, width: int, height: int) -> None:
    box = Rectangle((x, y), width, height, facecolor="#F2F2F2", edgecolor="white", linewidth=1.5)
    axes.add_patch(box)
    axes.text(x + width / 2, y + height / 2, "–" if value is None else _percent(value), ha="center", va="center")
