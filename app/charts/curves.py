"""Draws loss and accuracy of runs over their epochs: one run with three lines, or several runs for comparison."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator
from numpy.typing import NDArray

from app.charts.labels import printable
from app.charts.scales import robust_limits, say, set_ticks
from app.charts.style import BLUE, CYCLE, DPI, INK, MARGIN, MARKERS, SKY, VERMILION, place, settings, to_bytes
from app.wording import count

WIDTH = 1400  # pixels, like the sizes below
LEFT, TOP = 76, 90
PANEL_WIDTH, PANEL_HEIGHT = 608, 414
AXIS, NOTE = 52, 17
LEGEND_ROW = 21
MAX_POINTS = 1500  # per line; with more, each point has less than a pixel
NUM_MEDIANS = 250
MIN_SPAN = 2.0  # percent
CHANCE_LOSS = 3.0  # an untrained network has ln 10 = 2.3
SMALLEST_LOSS = 1e-8

Run = dict[str, Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Line:
    split: str
    epochs: Floats
    values: Floats
    style: dict[str, Any]
    best: int | None = None  # index of the best epoch


def draw(data: dict[str, Any]) -> bytes:
    """Draw the picture, about 1400 × 600 pixels; a long legend makes it higher.

    Args:
        data: `format`, `log` and `runs`, each run with its `metrics`, columns of equal length.
    """
    runs = data["runs"]
    with settings():
        return to_bytes(_figure(runs, data["log"]), data["format"], f"Loss and accuracy: {_title(runs)}")


def thin(values: Floats, keep: Sequence[int] = (), max_points: int = MAX_POINTS) -> Indices:
    """Return the indices of a line's visible points: the lowest and the highest of each stretch, and both ends.

    Args:
        values: Heights of the line's points; NaN is a gap.
        keep: Indices of points to keep.
        max_points: Largest number of points to return, besides `keep` and the ends.
    """
    if len(values) <= max_points:
        return np.arange(len(values))
    ranked, known = _stretches(values, max_points // 2)
    highest = ranked[np.arange(len(ranked)), np.maximum(known - 1, 0)]
    kept = np.concatenate([ranked[:, 0], highest, np.array([*keep, 0, len(values) - 1], dtype=np.intp)])
    return np.unique(kept)


def medians(values: Floats, num_stretches: int = NUM_MEDIANS) -> Indices:
    """Return the indices of the points that are the (lower) median of their stretch."""
    ranked, known = _stretches(values, num_stretches)
    middle: Indices = ranked[np.arange(len(ranked)), np.maximum(known - 1, 0) // 2]
    return middle


def _stretches(values: Floats, max_stretches: int) -> tuple[Indices, Indices]:
    """Cut a line into stretches of equal length.

    Returns:
        One row per stretch: the indices of its points by ascending value, NaN last. And for each stretch, the number of
        its points that are not NaN.
    """
    length = -(-len(values) // max_stretches)
    num_stretches = -(-len(values) // length)
    table = np.full(num_stretches * length, np.nan)
    table[: len(values)] = values
    rows = table.reshape(num_stretches, length)
    ranked = np.argsort(rows, axis=1, kind="stable") + length * np.arange(num_stretches)[:, np.newaxis]
    return ranked, np.isfinite(rows).sum(axis=1)


def plot_line(axes: Axes, epochs: Floats, values: Floats, **style: Any) -> None:
    """Plot a line, and mark points without neighbours: the only epoch so far, or one between two gaps."""
    known = np.pad(np.isfinite(values), 1)
    lonely = known[1:-1] & ~known[:-2] & ~known[2:]
    marked = np.unique(np.linspace(0, len(values) - 1, min(len(values), 9)).round().astype(int))
    axes.plot(epochs, values, markevery=marked.tolist(), **style)
    if lonely.any():
        look = {name: style[name] for name in ("color", "alpha", "markersize", "zorder") if name in style}
        axes.plot(epochs[lonely], values[lonely], style.get("marker") or "o", **look)


def epoch_axis(axes: Axes, first: float, last: float, notes: list[str]) -> None:
    pad = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("\n".join(["epoch", *notes]))


def log_heights(axes: Axes, low: float, high: float) -> None:
    """Make the y axis logarithmic, with plain numbers as ticks."""
    axes.set_yscale("log")
    pad = max((high / low) ** 0.05, 1.05)
    axes.set_ylim(low / pad, high * pad)
    ratio = high / low
    locator: FixedLocator | LogLocator | MaxNLocator = LogLocator(numticks=9)
    if ratio < 5:
        locator = MaxNLocator(6)
    elif ratio < 1000:
        locator = LogLocator(subs=(1, 2, 5) if ratio < 150 else (1, 3))
    set_ticks(axes.yaxis, locator, "{:.4g}".format)


def _figure(runs: list[Run], is_log: bool) -> Figure:
    handles = _run_handles(runs) if len(runs) > 1 else []
    figure = Figure(dpi=DPI)
    loss, accuracy = figure.add_axes((0, 0, 0.4, 1)), figure.add_axes((0.5, 0, 0.4, 1))
    _draw_loss(loss, runs, is_log)
    _draw_accuracy(accuracy, runs)
    num_notes = max(axes.get_xlabel().count("\n") for axes in (loss, accuracy))
    legend_top = TOP + PANEL_HEIGHT + AXIS + NOTE * num_notes
    styles_top = legend_top + LEGEND_ROW * _num_rows(handles)
    height = styles_top + LEGEND_ROW + MARGIN
    figure.set_size_inches(WIDTH / DPI, height / DPI)
    place(loss, LEFT, TOP, PANEL_WIDTH, PANEL_HEIGHT)
    place(accuracy, WIDTH - MARGIN - PANEL_WIDTH, TOP, PANEL_WIDTH, PANEL_HEIGHT)
    _draw_header(figure, runs)
    look: dict[str, Any] = {"loc": "upper left", "frameon": False, "borderaxespad": 0, "columnspacing": 1.6}
    if handles:
        figure.legend(handles=handles, bbox_to_anchor=(0.01, 1 - legend_top / height), ncols=2, **look)
    styles = _style_handles(runs)
    figure.legend(handles=styles, bbox_to_anchor=(0.01, 1 - styles_top / height), ncols=len(styles), **look)
    return figure


def _num_rows(handles: list[Line2D]) -> int:
    """Count the lines of text of a legend in two columns."""
    heights = [1 + str(handle.get_label()).count("\n") for handle in handles]
    half = -(-len(heights) // 2)
    return max(sum(heights[:half]), sum(heights[half:]))


def _title(runs: list[Run]) -> str:
    if len(runs) != 1:
        return f"{len(runs)} runs"
    run = runs[0]
    return printable(f"{run['name'] or 'run ' + run['id']} ({_progress(run)})", 150)


def _progress(run: Run) -> str:
    return f"{run['status']}, epoch {run['epoch']} of {run['epochs']}"


def _draw_header(figure: Figure, runs: list[Run]) -> None:
    height = figure.get_size_inches()[1] * DPI
    figure.text(0.01, 1 - 10 / height, printable(_title(runs), 110), fontsize=14, fontweight="bold", va="top")
    if len(runs) == 1:
        facts = " · ".join(part for part in (f"run {runs[0]['id']}", runs[0]["label"]) if part)
    else:
        counts = Counter(run["status"] for run in runs)
        facts = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    figure.text(0.01, 1 - 40 / height, printable(facts, 190), va="top", fontsize=10)


def _lines(runs: list[Run], measure: str, scale: float = 1) -> list[Line]:
    lines = [
        _line(run, split, measure, scale, style)
        for order, run in enumerate(runs)
        for split, style in _styles(len(runs), order).items()
    ]
    return [line for line in lines if len(line.epochs)]


def _line(run: Run, split: str, measure: str, scale: float, style: dict[str, Any]) -> Line:
    """Make the line of a metric. Null is an epoch that was not evaluated, NaN or infinity a loss that has diverged."""
    column = run["metrics"][f"{split}_{measure}"]
    epochs, values = np.array(run["metrics"]["epoch"], dtype=float), scale * np.array(column, dtype=float)
    if None in column:
        is_there = np.array([value is not None for value in column])
        epochs, values = epochs[is_there], values[is_there]
    values[~np.isfinite(values)] = np.nan
    best = np.flatnonzero(epochs == run["best_epoch"]) if split == "val" else np.array([])
    return Line(split, epochs, values, style, int(best[0]) if len(best) else None)


def _styles(num_runs: int, order: int) -> dict[str, dict[str, Any]]:
    """Return the line style of each split; the last split is drawn on top."""
    if num_runs == 1:
        return {
            "train": {"color": SKY, "linewidth": 1.2, "linestyle": "-", "markersize": 6},
            "train_eval": {"color": BLUE, "linewidth": 1.6, "linestyle": (0, (5, 1.5)), "markersize": 6},
            "val": {"color": VERMILION, "linewidth": 2, "linestyle": "-", "markersize": 6},
        }
    look = {"color": CYCLE[order % len(CYCLE)], "marker": MARKERS[order // len(CYCLE) % len(MARKERS)], "markersize": 5}
    return {
        "train_eval": look | {"linewidth": 0.9, "linestyle": (0, (4, 2)), "alpha": 0.8},
        "val": look | {"linewidth": 1.7, "linestyle": "-"},
    }


def _draw_loss(axes: Axes, runs: list[Run], is_log: bool) -> None:
    axes.set_title("Loss" + (" (logarithmic)" if is_log else ""), loc="left")
    lines = _lines(runs, "loss")
    values = _known(lines)
    if not len(values):
        say(axes, _emptiness(runs, lines, "loss"))
        return
    top = max(CHANCE_LOSS, 3 * float(np.percentile(values, 95, method="lower")))
    high = min(float(values.max()), top)
    if is_log:
        positive = values[values > 0]
        low = max(float(positive.min(initial=high or 1)), SMALLEST_LOSS)
        log_heights(axes, low, max(high, low))
    else:
        low = min(0.0, float(values.min()))
        axes.set_ylim(low, (low + 1.04 * (high - low)) or 1)
    axes.set_ylabel("mean cross-entropy (nats)")
    _draw_lines(axes, lines, "loss", "nats")


def _draw_accuracy(axes: Axes, runs: list[Run]) -> None:
    axes.set_title("Accuracy", loc="left")
    lines = _lines(runs, "accuracy", scale=100)
    values = _known(lines)
    if not len(values):
        say(axes, _emptiness(runs, lines, "accuracy"))
        return
    lows = [float(np.percentile(known, 15)) for line in lines if len(known := _known([line]))]
    low, high = robust_limits([*lows, float(values.max())])
    wider = max(0.0, MIN_SPAN - (high - low)) / 2
    axes.set_ylim(max(low - wider, -1), min(high + wider, 100.4))
    axes.set_ylabel("accuracy (%)")
    _draw_lines(axes, lines, "accuracy", "%")


def _known(lines: list[Line]) -> Floats:
    values: Floats = np.concatenate([np.array([]), *(line.values for line in lines)])
    return values[np.isfinite(values)]


def _emptiness(runs: list[Run], lines: list[Line], measure: str) -> str:
    if lines:
        return f"no {measure} is a finite number"
    is_over = all(run["status"] in ("succeeded", "failed", "cancelled") for run in runs)
    return "no epoch was evaluated" if is_over else "no epoch has been evaluated yet"


def _draw_lines(axes: Axes, lines: list[Line], measure: str, unit: str) -> None:
    is_one = any(line.split == "train" for line in lines)
    for line in lines:
        keep = thin(line.values, () if line.best is None else (line.best,))
        if len(keep) < len(line.values):
            if is_one or line.split == "val":
                pale = {"color": line.style["color"], "alpha": 0.3 if is_one else 0.12, "linewidth": 0.6, "zorder": 1.5}
                plot_line(axes, line.epochs[keep], line.values[keep], **pale)
            keep = medians(line.values)
        plot_line(axes, line.epochs[keep], line.values[keep], **line.style)
    for line in lines:
        if line.best is not None:
            axes.plot(
                line.epochs[line.best],
                line.values[line.best],
                "*",
                color=line.style["color"],
                markersize=15,
                markeredgecolor="white",
                zorder=4,
            )
    epochs = np.concatenate([line.epochs for line in lines])
    epoch_axis(axes, float(epochs.min()), float(epochs.max()), _notes(axes, lines, measure, unit))


def _notes(axes: Axes, lines: list[Line], measure: str, unit: str) -> list[str]:
    """Say what the panel does not show: lines cut off, gaps, and points between medians."""
    low, high = axes.get_ylim()
    notes = []
    for limit, word, outside in (
        (low, "below", [line.values < low for line in lines]),
        (high, "above", [line.values > high for line in lines]),
    ):
        num_cut = sum(bool(cut.any()) for cut in outside)
        num_hidden = sum(bool((cut | np.isnan(line.values)).all()) for cut, line in zip(outside, lines, strict=True))
        if num_cut:
            wholly = f", {num_hidden} of them wholly" if num_hidden else ""
            which = f"{num_cut} of {count(len(lines), 'line')} {'is' if len(lines) == 1 else 'are'}"
            notes.append(f"{which} cut off {word} {limit:.3g} {unit}{wholly}")
    num_broken = sum(bool(np.isnan(line.values).any()) for line in lines)
    if num_broken:
        which = f"{num_broken} of {count(len(lines), 'line')} {'has' if len(lines) == 1 else 'have'}"
        notes.append(f"{which} gaps where the {measure} is not finite")
    most = max(len(line.values) for line in lines)
    if most > MAX_POINTS:
        notes.append(f"bold: medians of up to {-(-most // NUM_MEDIANS)} epochs; pale: lowest and highest")
    return notes


def _style_handles(runs: list[Run]) -> list[Line2D]:
    is_one = len(runs) == 1
    words = {"train": "train as seen (in training, dropout on)", "train_eval": "train re-evaluated", "val": "val"}
    neutral: dict[str, Any] = {} if is_one else {"color": INK}
    handles = [
        Line2D([], [], **style | neutral, label=words[split])
        for split, style in reversed(_styles(len(runs), 0).items())
    ]
    label = _best_label(runs[0]) if is_one else "each run's best epoch on val"
    if any(run["best_epoch"] is not None for run in runs):
        colour = VERMILION if is_one else INK
        star: dict[str, Any] = {"marker": "*", "color": colour, "markersize": 13, "markeredgecolor": "white"}
        handles.append(Line2D([], [], **star, linestyle="", label=label))
    return handles


def _best_label(run: Run) -> str:
    text = f"best epoch {run['best_epoch']}"
    columns = run["metrics"]
    if run["best_epoch"] not in columns["epoch"]:
        return text
    row = columns["epoch"].index(run["best_epoch"])
    loss, accuracy = columns["val_loss"][row], columns["val_accuracy"][row]
    if loss is None or accuracy is None:
        return text
    return f"{text}: val loss {loss:.4g}, val accuracy {100 * accuracy:.2f} %"


def _run_handles(runs: list[Run]) -> list[Line2D]:
    handles = []
    for order, run in enumerate(runs):
        text = printable(run["label"] or run["name"] or run["id"], 160)
        if run["status"] != "succeeded":
            text += f" ({_progress(run)})"
        if not run["metrics"]["epoch"]:
            text += ", nothing evaluated"
        text = textwrap.fill(text, 95)
        handles.append(Line2D([], [], **_styles(len(runs), order)["val"], label=text))
    return handles
