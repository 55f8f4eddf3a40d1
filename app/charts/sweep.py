"""Draws the picture of a sweep: the effect of each parameter, accuracy against size, and accuracy over epochs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from matplotlib.figure import Figure

from app.charts.effects import draw_effects, grid_shape
from app.charts.findings import Findings
from app.charts.labels import parameters_label, printable
from app.charts.pareto import draw_front, label_front
from app.charts.progress import draw_progress
from app.charts.style import DPI, settings, to_png
from app.wording import count

WIDTH = 14.0  # inches, like the sizes below
HEADER = 0.65
HEADER_LINE = 0.2
LOWER_PANELS = 5.3
ROWS_HEIGHT = {1: 4.25, 2: 6.6}
MORE_ROW_HEIGHT = 3.2


def draw(data: dict[str, Any]) -> bytes:
    """Draw a PNG, 1400 pixels wide and at least 1000 high.

    Args:
        data: `report`, a `SweepReport` as JSON, and `curves`, by run id `epochs` and `val_accuracy` of equal length.
    """
    with settings():
        return to_png(_figure(Findings.of(data)))


def _figure(findings: Findings) -> Figure:
    report = findings.report
    rows, _ = grid_shape(len(report["effects"] or report["paths"]))
    upper = ROWS_HEIGHT.get(rows, MORE_ROW_HEIGHT * rows)
    facts = _facts(findings)
    head = HEADER + HEADER_LINE * (len(facts) - 1)
    figure = Figure(figsize=(WIDTH, head + upper + LOWER_PANELS), dpi=DPI, layout="constrained")
    header, effects, lower = figure.subfigures(3, 1, squeeze=False, height_ratios=[head, upper, LOWER_PANELS])[:, 0]
    name = printable(report["name"] or f"Sweep {report['sweep_id']}", 90)
    header.text(0.01, 1 - 0.07 / head, name, fontsize=15, fontweight="bold", va="top")
    header.text(0.01, 1 - 0.42 / head, "\n".join(facts), va="top", fontsize=10)
    draw_effects(effects, findings, round(WIDTH * DPI))
    front, progress = lower.subplots(1, 2)
    draw_front(lower, front, findings)
    draw_progress(progress, findings)
    figure.draw_without_rendering()  # computes the layout, on which the labels depend
    label_front(front, findings)
    return figure


def _facts(findings: Findings) -> list[str]:
    report = findings.report
    counts = Counter(trial["status"] for trial in report["trials"])
    trials = ", ".join(f"{number} {status}" for status, number in counts.most_common())
    facts = [
        f"{report['status']}",
        f"{count(len(report['points']), 'point')}",
        f"{count(len(report['trials']), 'trial')}" + (f" ({trials})" if len(counts) > 1 else ""),
    ]
    if report["name"]:
        facts.insert(0, f"sweep {report['sweep_id']}")
    if findings.is_on_folds:
        facts.append("cross-validation: accuracies are on folds of the train split")
    lines = [" · ".join(facts)]
    if report["choice"]:
        lines.append(_chosen(report["choice"]))
    return lines


def _chosen(choice: dict[str, Any]) -> str:
    mean, error = 100 * choice["mean_val_accuracy"], 100 * choice["standard_error"]
    text = f"chosen: point {choice['point_number']} ({printable(parameters_label(choice['parameters']), 90)}), "
    text += f"{mean:.2f} ± {error:.2f} % over the folds"
    if choice["final_val_accuracy"] is not None:
        text += f"; {100 * choice['final_val_accuracy']:.2f} % on val"
    return text
