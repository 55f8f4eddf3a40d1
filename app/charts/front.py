"""The panel that sets accuracy against size and marks the Pareto front."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from app.charts.findings import Findings, Point, accuracy
from app.charts.scales import log_axis, robust_limits, say
from app.charts.style import CONTINUOUS, GREY, INK, VERMILION

MAX_LABELS = 16
PLACES = [(8, 7), (8, -14), (-8, 7), (-8, -14), (0, 13), (0, -20), (14, -4), (-14, -4), (18, 18), (18, -26)]


def draw_front(figure: SubFigure, axes: Axes, findings: Findings) -> None:
    axes.set_title("Accuracy against size", loc="left")
    points = [point for point in findings.measured if point["num_parameters"]]
    if not points:
        say(axes, "the number of parameters is not known" if findings.measured else findings.emptiness)
        return
    on_front = set(findings.report["pareto"])
    front = [point for point in points if point["point_number"] in on_front]
    low, high = robust_limits([accuracy(point) for point in points])
    axes.set_ylim(low, high + 0.05 * (high - low))
    log_axis(axes, [point["num_parameters"] for point in points], "{:,.0f}".format)
    axes.set_xlabel("number of parameters (logarithmic)")
    axes.set_ylabel(findings.accuracy_label)
    _draw_steps(axes, front)
    _draw_points(figure, axes, points, on_front, low)
    if findings.best in points:
        _mark_best(axes, findings)
    axes.legend(loc="lower right")
    _label(axes, [point for point in front if accuracy(point) >= low])


def _draw_points(figure: SubFigure, axes: Axes, points: list[Point], on_front: set[int], low: float) -> None:
    """Filled by epochs to the plateau, grey where that is not known; the front's points are larger and outlined."""
    known = [point["mean_epochs_to_plateau"] for point in points if point["mean_epochs_to_plateau"] is not None]
    norm = Normalize(min(known, default=0), max(known, default=0) if len(set(known)) > 1 else min(known, default=0) + 1)
    colours = ScalarMappable(norm, CONTINUOUS)
    for is_front, label in ((False, "other point"), (True, "on the Pareto front, with its number")):
        chosen = [point for point in points if (point["point_number"] in on_front) is is_front]
        for is_below in (False, True):
            group = [point for point in chosen if (accuracy(point) < low) is is_below]
            if not group:
                continue
            fills = [
                GREY if point["mean_epochs_to_plateau"] is None else colours.cmap(norm(point["mean_epochs_to_plateau"]))
                for point in group
            ]
            axes.scatter(
                [point["num_parameters"] for point in group],
                [low if is_below else accuracy(point) for point in group],
                c=fills,
                s=75 if is_front else 34,
                marker="v" if is_below else "o",
                edgecolors=INK if is_front else "#FFFFFF",
                linewidths=1.7 if is_front else 0.5,
                alpha=1 if is_front else 0.75,
                clip_on=not is_below,
                zorder=3 if is_front else 2,
                label="below the axis" if is_below else label,
            )
    if known:
        bar = figure.colorbar(colours, ax=axes, label="mean epochs to the plateau", pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_steps(axes: Axes, front: list[Point]) -> None:
    """The highest accuracy that each size reaches; the front has a third aim, so points may lie under this line."""
    sizes: list[int] = []
    heights: list[float] = []
    for point in sorted(front, key=lambda point: (point["num_parameters"], -accuracy(point))):
        if not heights or accuracy(point) > heights[-1]:
            sizes.append(point["num_parameters"])
            heights.append(accuracy(point))
    if len(sizes) > 1:
        right = axes.get_xlim()[1]
        axes.step([*sizes, right], [*heights, heights[-1]], where="post", color=INK, linewidth=1.1, alpha=0.6, zorder=1)


def _mark_best(axes: Axes, findings: Findings) -> None:
    best = findings.best
    assert best is not None
    axes.plot(
        best["num_parameters"],
        accuracy(best),
        "*",
        color=VERMILION,
        markersize=15,
        markeredgecolor="white",
        linestyle="none",
        zorder=4,
        label=f"{findings.best_word} point",
    )


def _label(axes: Axes, front: list[Point]) -> None:
    """Point numbers, each where it covers no earlier number; of many, the most accurate points' alone."""
    taken: list[Bbox] = []
    frame = axes.transData
    for point in sorted(front, key=accuracy, reverse=True)[:MAX_LABELS]:
        text = str(point["point_number"])
        x, y = frame.transform((point["num_parameters"], accuracy(point)))
        width = 7.5 * len(text)
        for dx, dy in PLACES:
            left = x + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = Bbox.from_bounds(left, y + dy, width, 13)
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                axes.annotate(
                    text,
                    (point["num_parameters"], accuracy(point)),
                    (dx * 0.72, dy * 0.72),  # pixels to the 72nds of an inch that annotate counts in
                    textcoords="offset points",
                    ha="left" if dx > 0 else "right" if dx < 0 else "center",
                    va="bottom",
                    path_effects=[withStroke(linewidth=2.5, foreground="white")],
                    zorder=6,
                )
                break
