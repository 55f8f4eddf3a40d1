"""Draws the panels that show, for each parameter, how accurate the points with each of its values are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from app.charts.findings import Findings, accuracy, standard_error
from app.charts.labels import printable, value_label
from app.charts.scales import MAX_GRID_VALUES, numeric_axis, say
from app.charts.style import BLUE, SKY, VERMILION
from app.parameter_names import parameter_names
from app.wording import count

MAX_PANELS = 24
PIXELS_PER_CHARACTER = 7.5


def grid_shape(num_parameters: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of panels."""
    num_panels = max(1, min(num_parameters, MAX_PANELS))
    columns = 3 if num_panels in (5, 6, 9) else min(num_panels, 4)
    return math.ceil(num_panels / columns), columns


def draw_effects(figure: SubFigure, findings: Findings, width_pixels: int) -> None:
    effects = findings.report["effects"] or [
        {"path": path, "share_of_variance": None} for path in findings.report["paths"]
    ]
    names = parameter_names([effect["path"] for effect in effects])
    rows, columns = grid_shape(len(effects))
    panels = figure.subplots(rows, columns, squeeze=False, sharey=bool(findings.measured)).flatten()
    figure.suptitle(_explanation(findings, len(effects)), x=0.01, ha="left", fontsize=9.5)
    for axes in panels[max(len(effects), 1) :]:
        axes.set_visible(False)
    if not effects:
        say(panels[0], "no parameter was searched")
    for number, (axes, effect) in enumerate(zip(panels, effects, strict=False)):
        axes.set_title(_title(names[effect["path"]], effect["share_of_variance"]))
        _draw_effect(axes, findings, effect["path"], width_pixels // columns - 70)
        if number % columns == 0:
            axes.set_ylabel(findings.accuracy_label)


def _explanation(findings: Findings, num_effects: int) -> str:
    parts = ["Each dot is a point of the search", "dark: mean ± standard error of a value's points"]
    if findings.best:
        parts.append(f"★ the {findings.best_word} point, number {findings.best['point_number']}")
        low, _ = findings.limits
        num_below = sum(accuracy(point) < low for point in findings.measured)
        if num_below:
            where = f"{num_below} of {count(len(findings.measured), 'point')}"
            parts.append(f"▼ below the axis and not in the means ({where})")
    if num_effects > MAX_PANELS:
        num_hidden = num_effects - MAX_PANELS
        parts.append(f"{count(num_hidden, 'weaker parameter')} {'is' if num_hidden == 1 else 'are'} left out")
    return "; ".join(parts)


def _title(name: str, share_of_variance: float | None) -> str:
    title = printable(name, 34)
    return title if share_of_variance is None else f"{title}\nexplains {100 * share_of_variance:.0f} % of the variance"


def _draw_effect(axes: Axes, findings: Findings, path: str, width_pixels: int) -> None:
    points = [point for point in findings.measured if path in point["parameters"]]
    if not points:
        say(axes, findings.emptiness)
        return
    values = [point["parameters"][path] for point in points]
    accuracies = np.array([accuracy(point) for point in points])
    low, high = findings.limits
    axes.set_ylim(low, high)
    if _are_numbers(values):
        x = np.array(values, dtype=float)
        numeric_axis(axes, x.tolist(), max_ticks=max(2, width_pixels // 46))
    else:
        x = _categorical_axis(axes, values, width_pixels)
    is_seen = accuracies >= low
    axes.plot(x[is_seen], accuracies[is_seen], "o", color=SKY, alpha=0.45, markersize=5.5, markeredgewidth=0)
    errors = np.array([standard_error(point) for point in points])
    is_range = _are_numbers(values) and len(set(values)) > MAX_GRID_VALUES
    if is_range:
        _quarter_means(axes, x[is_seen], accuracies[is_seen])
    else:
        _means(axes, x[is_seen], accuracies[is_seen], errors[is_seen], is_line=_are_numbers(values))
    _mark_below(axes, x[~is_seen], low, is_counted=not is_range)
    for position, point in zip(x, points, strict=True):
        if point is findings.best:
            axes.plot(position, accuracy(point), "*", color=VERMILION, markersize=13, markeredgecolor="white", zorder=5)


def _means(axes: Axes, x: np.ndarray, accuracies: np.ndarray, errors: np.ndarray, *, is_line: bool) -> None:
    """Plot each value's mean and its standard error; for a single point, the error over its repeats or folds."""
    groups = [np.flatnonzero(x == value) for value in np.unique(x)]
    centers = [x[group[0]] for group in groups]
    means = [accuracies[group].mean() for group in groups]
    bars = [errors[group[0]] if len(group) == 1 else _error_of_mean(accuracies[group]) for group in groups]
    bars = [bar or math.nan for bar in bars]  # NaN draws no bar, 0 would draw one of no length
    axes.errorbar(centers, means, bars, fmt="o", color=BLUE, markersize=6, capsize=4, linewidth=1.8)
    if is_line:
        axes.plot(centers, means, color=BLUE, linewidth=1, alpha=0.6)


def _quarter_means(axes: Axes, x: np.ndarray, accuracies: np.ndarray) -> None:
    """Plot a bar over each quarter of the points, by rank, for a parameter that was drawn from a range."""
    for quarter in np.array_split(np.argsort(x, kind="stable"), 4):
        if not len(quarter):
            continue
        ends = [x[quarter[0]], x[quarter[-1]]]
        mean, error = accuracies[quarter].mean(), _error_of_mean(accuracies[quarter])
        axes.fill_between(ends, mean - error, mean + error, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(ends, [mean, mean], color=BLUE, linewidth=2.2)


def _error_of_mean(accuracies: np.ndarray) -> float:
    return float(accuracies.std(ddof=1)) / math.sqrt(len(accuracies)) if len(accuracies) > 1 else 0.0


def _mark_below(axes: Axes, x: np.ndarray, low: float, *, is_counted: bool) -> None:
    """Mark the points below the axis, and write their number beside each value."""
    if not len(x):  # an empty line that is not clipped would spoil the layout
        return
    axes.plot(x, np.full(len(x), low), "v", color=SKY, markersize=7, markeredgewidth=0, clip_on=False, zorder=4)
    places, counts = np.unique(x, return_counts=True)
    if not is_counted or len(places) > MAX_GRID_VALUES:
        return
    for place, number in zip(places, counts, strict=True):
        axes.annotate(str(number), (place, low), (6, 3), textcoords="offset points", in_layout=False)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _categorical_axis(axes: Axes, values: Sequence[Any], width_pixels: int) -> np.ndarray:
    """Make the x axis categorical, and return each value's place on it."""
    categories = {json.dumps(value): value for value in values}
    order = sorted(categories, key=lambda key: _sort_key(categories[key]))
    place = {key: number for number, key in enumerate(order)}
    shown = order[:: math.ceil(len(order) * 18 / width_pixels)]
    axes.set_xticks([place[key] for key in shown], [value_label(categories[key]) for key in shown])
    longest = max(len(label.get_text()) for label in axes.get_xticklabels())
    if longest * PIXELS_PER_CHARACTER > width_pixels / len(shown):
        is_slanted = len(shown) * 30 <= width_pixels
        for label in axes.get_xticklabels():
            label.set(
                rotation=40 if is_slanted else 90,
                horizontalalignment="right" if is_slanted else "center",
                rotation_mode="anchor" if is_slanted else "default",
            )
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.grid(visible=False, axis="x")
    return np.array([place[json.dumps(value)] for value in values], dtype=float)


def _sort_key(value: Any) -> tuple[str, list[float], str]:
    """Sort numbers and lists of numbers by size, other values alphabetically."""
    if _are_numbers([value]):
        return "number", [float(value)], ""
    if isinstance(value, list) and _are_numbers(value):
        return "list", [float(item) for item in value], ""
    return type(value).__name__, [], json.dumps(value)
