"""Draws the weights of the first hidden layer: what each unit looks for, as an 8×8 picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from app.charts.style import DPI, GREY, MARGIN, head_sheet, pixel_sheet, place, settings, to_bytes

MAX_UNITS = 256
HEADER = 66  # pixels, like the sizes below
GAP = 10
NUMBER = 17
SCALE = 100
MIN_WIDTH = 620


def draw(data: dict[str, Any]) -> bytes:
    """Draw the picture, as large as its units need; about 1300 pixels wide for 256 units.

    Args:
        data: `format`, `title` and `units`, the 64 weights of each unit.
    """
    with settings():
        return to_bytes(_figure(data), data["format"], data["title"])


def _figure(data: dict[str, Any]) -> Figure:
    units = np.array(data["units"], dtype=float).reshape(-1, 8, 8)
    units[~np.isfinite(units)] = np.nan
    numbers = _largest(units)
    size = _size(len(numbers))
    columns = max(1, min(len(numbers), int(np.ceil(np.sqrt(1.5 * len(numbers))))))
    rows = max(1, -(-len(numbers) // columns))
    pitch, height = size + GAP, size + GAP + NUMBER
    width = max(MIN_WIDTH, 2 * MARGIN + columns * pitch + SCALE)
    figure, axes = pixel_sheet(width, HEADER + max(rows * height, 160) + MARGIN)
    note = "weights from the 8×8 pixels to " + ("1 hidden unit" if len(units) == 1 else f"{len(units)} hidden units")
    if len(numbers) < len(units):
        note += f"; the {len(numbers)} with the largest norm are shown"
    head_sheet(axes, data["title"], note)
    limit = float(np.nanmax(np.abs(units), initial=0)) or 1.0
    norm, colours = Normalize(-limit, limit), colormaps["RdBu_r"].with_extremes(bad=GREY)
    for order, number in enumerate(numbers):
        x, y = MARGIN + order % columns * pitch, HEADER + order // columns * height
        axes.text(x, y + NUMBER - 4, str(number), fontsize=9, va="baseline")
        _draw_unit(axes, units[number], x, y + NUMBER, size, norm, colours)
    _draw_scale(figure, norm, colours, MARGIN + columns * pitch + 8)
    return figure


def _largest(units: np.ndarray) -> list[int]:
    norms = np.nansum(units**2, axis=(1, 2))
    return sorted(np.argsort(-norms, kind="stable")[:MAX_UNITS].tolist())


def _size(num_units: int) -> int:
    """Return a picture's side in pixels, a multiple of 8, so that all 64 weights are equally large."""
    return 112 if num_units <= 24 else 80 if num_units <= 80 else 56 if num_units <= 144 else 48


def _draw_unit(axes: Axes, unit: np.ndarray, x: int, y: int, size: int, norm: Normalize, colours: Colormap) -> None:
    extent = (x, x + size, y + size, y)
    axes.imshow(unit, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="none")
    axes.plot([x, x + size, x + size, x, x], [y, y, y + size, y + size, y], color="#BBBBBB", linewidth=0.6)


def _draw_scale(figure: Figure, norm: Normalize, colours: Colormap, x: int) -> None:
    length = min(figure.get_size_inches()[1] * DPI - HEADER - NUMBER - MARGIN, 320)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=figure.add_axes((0, 0, 1, 1)), label="weight")
    place(bar.ax, x, HEADER + NUMBER, 14, length)
