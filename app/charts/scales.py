"""Limits and ticks of axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from app.charts.style import INK

MAX_GRID_VALUES = 12  # a parameter with more distinct numbers counts as drawn from a range


def robust_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits for accuracies in percent, which a few very bad ones do not stretch (Tukey's outer fence, 1977)."""
    quarter, three_quarters = np.percentile(values, [25, 75])
    fence = quarter - 3 * max(three_quarters - quarter, 0.5)
    low, high = min(value for value in values if value >= fence), max(values)
    pad = max(0.07 * (high - low), 0.15)
    return low - pad, high + pad


def numeric_axis(axes: Axes, values: Sequence[float], max_ticks: int) -> None:
    """Scale the x axis for the values; if they are few and far enough apart, they are its ticks."""
    distinct = sorted(set(values))
    is_log = _is_spread_over_magnitudes(distinct)
    if is_log:
        log_axis(axes, distinct)
    else:
        low, high = distinct[0], distinct[-1]
        pad = 0.12 * (high - low) or max(abs(low) * 0.1, 0.5)
        axes.set_xlim(low - pad, high + pad)
        set_ticks(axes.xaxis, MaxNLocator(min(max_ticks, 6)), "{:.4g}".format)
    positions = np.log10(distinct) if is_log else np.asarray(distinct)
    span = positions[-1] - positions[0]
    if len(distinct) <= max_ticks and np.diff(positions).min(initial=np.inf) >= 0.8 * span / max_ticks:
        set_ticks(axes.xaxis, FixedLocator(distinct), "{:.4g}".format)


def _is_spread_over_magnitudes(distinct: Sequence[float]) -> bool:
    """Tell whether a logarithmic axis suits the values. Values drawn evenly from, say, 0.01 to 0.5 need none."""
    low, high = distinct[0], distinct[-1]
    if low <= 0 or high / low < 10:
        return False
    return len(distinct) <= MAX_GRID_VALUES or float(np.median(distinct)) - low < 0.3 * (high - low)


def log_axis(axes: Axes, values: Sequence[float], label: Callable[[float], str] = "{:g}".format) -> None:
    """Make the x axis logarithmic, with plain numbers as ticks even for one value or a narrow span."""
    low, high = min(values), max(values)
    axes.set_xscale("log")
    pad = (high / low) ** 0.1 if high > low else 1.5
    axes.set_xlim(low / pad, high * pad)
    ratio = high / low
    if ratio == 1:
        set_ticks(axes.xaxis, FixedLocator([low]), label)
    elif ratio < 5:
        set_ticks(axes.xaxis, MaxNLocator(4), label)
    elif ratio < 150:
        set_ticks(axes.xaxis, LogLocator(subs=(1, 2, 5) if ratio < 40 else (1, 3)), label)
    else:
        set_ticks(axes.xaxis, LogLocator(numticks=6), label)


def set_ticks(axis: Axis, locator: FixedLocator | LogLocator | MaxNLocator, label: Callable[[float], str]) -> None:
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axis.set_minor_locator(NullLocator())


def say(axes: Axes, message: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color=INK, alpha=0.7, fontsize=11)


def legend_below(axes: Axes, columns: int = 1) -> None:
    """Place the legend under the label of the x axis, where it hides nothing."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(-0.01, -0.13),
        ncols=columns,
        frameon=False,
        borderaxespad=0,
        columnspacing=1.2,
        handletextpad=0.4,
    )
