"""Draws the panel of every trial's accuracy over its epochs."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from app.charts.findings import Findings
from app.charts.labels import parameters_label
from app.charts.scales import legend_below, robust_limits, say
from app.charts.style import GREY, VERMILION
from app.wording import count

Curve = np.ndarray  # (epochs, 2): epoch, accuracy in percent


def draw_progress(axes: Axes, findings: Findings) -> None:
    axes.set_title("Accuracy over epochs, a line for each trial", loc="left")
    curves = {run_id: _curve(curve) for run_id, curve in findings.curves.items()}
    curves = {run_id: curve for run_id, curve in curves.items() if len(curve)}
    if not curves:
        say(axes, "no accuracy was recorded epoch by epoch" if findings.measured else findings.emptiness)
        return
    low, high = _limits(list(curves.values()))
    axes.set_ylim(low, high)
    epochs = np.concatenate([curve[:, 0] for curve in curves.values()])
    first, last = float(epochs.min()), float(epochs.max())
    pad = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - pad, last + pad)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_ylabel(findings.accuracy_label)
    axes.set_xlabel("epochs trained" + _cut_off(list(curves.values()), low))
    alpha = float(np.clip(25 / len(curves), 0.12, 0.6))
    axes.add_collection(LineCollection(list(curves.values()), colors="#555555", linewidths=0.9, alpha=alpha))
    _draw_best(axes, findings, curves)


def _curve(curve: dict[str, Any]) -> Curve:
    pairs = [
        (epoch, 100 * value)
        for epoch, value in zip(curve["epochs"], curve["val_accuracy"], strict=False)
        if value is not None
    ]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def _limits(curves: list[Curve]) -> tuple[float, float]:
    """Return limits that show the last accuracies of all but the worst trials, and most of the earlier ones."""
    heights = np.concatenate([curve[:, 1] for curve in curves])
    low, high = robust_limits([*(float(curve[-1, 1]) for curve in curves), float(heights.max())])
    return min(low, float(np.percentile(heights, 15))), high


def _cut_off(curves: list[Curve], low: float) -> str:
    num_cut = sum(bool(curve[:, 1].min() < low) for curve in curves)
    num_hidden = sum(bool(curve[:, 1].max() < low) for curve in curves)
    if not num_cut:
        return ""
    which = f"{num_cut} of {count(len(curves), 'line')} {'is' if len(curves) == 1 else 'are'}"
    note = f"{which} cut off below {low:.3g} %"
    return f"   ({note}, {num_hidden} of them wholly)" if num_hidden else f"   ({note})"


def _draw_best(axes: Axes, findings: Findings, curves: dict[str, Curve]) -> None:
    """Draw the best trial; with cross-validation, the folds of the best or chosen point."""
    best = findings.best
    if best is None:
        return
    trials = [trial for trial in findings.report["trials"] if trial["point_number"] == best["point_number"]]
    trials = [trial for trial in trials if trial["run_id"] in curves]
    if not trials:
        return
    what = f"{findings.best_word} point {best['point_number']}, on its {count(len(trials), 'fold')}"
    if not findings.is_on_folds:
        trials = trials[:1]  # the report lists the best trial first
        what = f"trial {trials[0]['trial_number']}, the best of point {best['point_number']}"
    label = textwrap.fill(f"{what}: {parameters_label(best['parameters'])}", 70, max_lines=4, placeholder=" …")
    for trial in trials:
        curve = curves[trial["run_id"]]
        axes.plot(
            curve[:, 0],
            curve[:, 1],
            color=VERMILION,
            linewidth=2 if findings.is_on_folds else 2.4,
            marker="o" if len(curve) == 1 else "",
            label=label if trial is trials[0] else None,
        )
    axes.plot([], [], color=GREY, linewidth=1, label="other trials")
    legend_below(axes)
