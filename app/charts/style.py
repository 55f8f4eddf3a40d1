"""The style of all pictures: legible at their natural size, on white in light and dark surroundings alike."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.charts.labels import printable

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

DPI = 100

# Okabe and Ito, "Color Universal Design", 2008: colour-blind readers can tell these colours apart.
BLUE = "#0072B2"
SKY = "#56B4E9"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
INK = "#222222"
GREY = "#8A8A8A"
CONTINUOUS = "cividis"
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, INK, GREY)
MARKERS = ("", "s", "^", "D", "v", "P", "X")  # the marker changes whenever the colours start again
MARGIN = 16  # pixels

SETTINGS: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",  # part of matplotlib, so pictures are the same everywhere
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#666666",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "#CCCCCC",
    "text.parse_math": False,  # a sweep may be named "$x$"
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # paths look the same on machines without the font
    "svg.hashsalt": "digitlab",
}


def settings() -> AbstractContextManager[None]:
    """Return a context in which figures have this style."""
    return rc_context(SETTINGS)


def to_png(figure: Figure) -> bytes:
    """Write a PNG. The same figure gives the same bytes: they hold neither a date nor the name of the software."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, title: str) -> bytes:
    """Write an SVG, as deterministic as `to_png`; a screen reader reads the title aloud."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Title": printable(title), "Date": None, "Creator": None})
    return buffer.getvalue()


def to_bytes(figure: Figure, picture_format: str, title: str) -> bytes:
    """Write a figure in the format "png" or "svg"."""
    return to_svg(figure, title) if picture_format == "svg" else to_png(figure)


def pixel_sheet(width: int, height: int) -> tuple[Figure, Axes]:
    """Make a figure with one axes that counts pixels from the upper left corner, to place small pictures exactly."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


def head_sheet(axes: Axes, title: str, note: str = "") -> None:
    """Write a title and lines under it on a sheet that counts pixels."""
    width = round(axes.get_xlim()[1]) - 2 * MARGIN
    axes.text(MARGIN, 12, printable(title, width // 11), fontsize=13, fontweight="bold", va="top")
    axes.text(MARGIN, 37, note, fontsize=10, va="top", linespacing=1.3)


def place(axes: Axes, left: float, top: float, width: float, height: float) -> None:
    """Place axes, in pixels from the figure's upper left corner.

    A layout engine's result differs in its last digits from one drawing to the next, which an SVG would show.
    """
    assert axes.figure is not None
    whole_width, whole_height = (side * DPI for side in axes.figure.get_figure(root=True).get_size_inches())
    axes.set_position(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )
