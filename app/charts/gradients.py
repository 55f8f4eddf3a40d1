"""Draws the norm of the loss's gradient in each layer over the epochs, which shows where it vanishes or explodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.charts.curves import epoch_axis, log_heights, plot_line, thin
from app.charts.labels import printable
from app.charts.scales import say
from app.charts.style import CYCLE, MARKERS, head_sheet, pixel_sheet, place, settings, to_bytes

LEFT, TOP, WIDTH, HEIGHT, BOTTOM = 84, 54, 960, 460, 86  # pixels
LETTER = 7
LAYERS_IN_A_COLUMN = 22
NUM_PARTS = 60
SMALLEST, LARGEST = 1e-45, 3.4e38  # limits of single precision


def draw(data: dict[str, Any]) -> bytes:
    """Draw the picture, about 1200 × 600 pixels; many layers make it wider.

    Args:
        data: `format`, `title`, `layers` (their names), `epochs` and `norms` (for each epoch, one per layer).
    """
    with settings():
        return to_bytes(_figure(data), data["format"], data["title"])


def _figure(data: dict[str, Any]) -> Figure:
    columns = max(1, -(-len(data["layers"]) // LAYERS_IN_A_COLUMN))
    names = [printable(name, 40) for name in data["layers"]]
    legend = columns * (50 + LETTER * max(map(len, names), default=0))
    figure, sheet = pixel_sheet(LEFT + WIDTH + legend, TOP + HEIGHT + BOTTOM)
    head_sheet(sheet, data["title"])
    axes = figure.add_axes((0, 0, 1, 1))
    place(axes, LEFT, TOP, WIDTH, HEIGHT)
    norms = np.array(data["norms"], dtype=float).reshape(len(data["epochs"]), len(data["layers"]))
    norms[~(norms <= LARGEST)] = np.nan
    norms[norms < SMALLEST] = 0
    if not norms.size:
        say(axes, "no gradient has been recorded")
    elif not (norms > 0).any():
        say(axes, "all gradients are zero" if (norms == 0).all() else "no gradient is a positive number")
    else:
        _draw_layers(axes, names, np.array(data["epochs"], dtype=float), norms)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), ncols=columns, frameon=False, borderaxespad=0)
    return figure


def _draw_layers(axes: Axes, layers: list[str], epochs: np.ndarray, norms: np.ndarray) -> None:
    positive = norms[norms > 0]
    low, high = float(positive.min()), float(positive.max())
    is_zero = norms == 0
    floor = low / max((high / low) ** 0.1, 1.3)  # zeros are drawn here, since a logarithmic axis has none
    heights = np.where(is_zero, floor, norms)
    log_heights(axes, floor if is_zero.any() else low, high)
    for layer, name in enumerate(layers):
        color = CYCLE[layer % len(CYCLE)]
        marker = MARKERS[layer // len(CYCLE) % len(MARKERS)]
        keep = thin(heights[:, layer])
        style = {"color": color, "linewidth": 1.7, "marker": marker, "markersize": 5}
        plot_line(axes, epochs[keep], heights[keep, layer], **style, label=name)
        zeros = _far_enough_apart(epochs, is_zero[:, layer])
        axes.plot(epochs[zeros], heights[zeros, layer], "v", color=color, markersize=6, clip_on=False)
    notes = ["▼ zero, which a logarithmic axis has no place for"] if is_zero.any() else []
    if np.isnan(norms).any():
        notes.append("gaps: the gradient is not finite")
    axes.set_ylabel("norm of the gradient (logarithmic)")
    epoch_axis(axes, float(epochs.min()), float(epochs.max()), notes)


def _far_enough_apart(epochs: np.ndarray, is_chosen: np.ndarray) -> np.ndarray:
    """Return the first of the chosen indices in each of `NUM_PARTS` parts of the axis."""
    chosen = np.flatnonzero(is_chosen)
    parts = NUM_PARTS * (epochs[chosen] - epochs[0]) // max(epochs[-1] - epochs[0], 1)
    return chosen[np.unique(parts, return_index=True)[1]]
