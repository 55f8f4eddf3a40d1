"""Draws the panel that shows accuracy against size and marks the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from app.charts.findings import Findings, PointDocument, accuracy
from app.charts.scales import legend_below, log_axis, say
from app.charts.style import CONTINUOUS, DPI, GREY, INK, VERMILION

MAX_LABELS = 16
OFFSETS = [(9, 4), (9, -16), (-9, 4), (-9, -16), (0, 9), (0, -22), (11, -6), (-11, -6)]  # pixels


def draw_front(figure: SubFigure, axes: Axes, findings: Findings) -> None:
    axes.set_title("Accuracy against size", loc="left")
    points = _sized(findings)
    if not points:
        say(axes, "the number of parameters is not known" if findings.measured else findings.emptiness)
        return
    low, high = findings.limits
    axes.set_ylim(low, high + 0.05 * (high - low))
    log_axis(axes, [point["num_parameters"] for point in points], "{:,.0f}".format)
    axes.set_xlabel("number of parameters (logarithmic)")
    axes.set_ylabel(findings.accuracy_label)
    front = _front(findings)
    _draw_steps(axes, front)
    _draw_points(figure, axes, points, low)
    rings = [point for point in front if accuracy(point) >= low]
    axes.plot(*_places(rings, low), "o", markersize=11, markeredgecolor=INK, fillstyle="none", zorder=3)
    if findings.best in points:
        axes.plot(
            *_places([findings.best], low), "*", color=VERMILION, markersize=14, markeredgecolor="white", zorder=4
        )
    _explain(axes, findings, any(accuracy(point) < low for point in points))


def label_front(axes: Axes, findings: Findings) -> None:
    """Number the `MAX_LABELS` most accurate points of the front, where the number covers no other point or number."""
    low, _ = findings.limits if findings.measured else (0, 0)
    front = sorted((point for point in _front(findings) if accuracy(point) >= low), key=accuracy, reverse=True)
    places = [axes.transData.transform((point["num_parameters"], accuracy(point))) for point in front]
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in places]
    for point, (x, y) in list(zip(front, places, strict=True))[:MAX_LABELS]:
        text = str(point["point_number"])
        width = 8 * len(text)
        for dx, dy in OFFSETS:
            left = x + dx - (0 if dx > 0 else width if dx < 0 else width / 2)
            box = Bbox.from_bounds(left, y + dy, width, 13)
            if any(box.overlaps(other) for other in taken):
                continue
            taken.append(box)
            axes.annotate(
                text,
                (point["num_parameters"], accuracy(point)),
                (dx * 72 / DPI, dy * 72 / DPI),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                va="bottom",
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                in_layout=False,
                zorder=6,
            )
            break


def _sized(findings: Findings) -> list[PointDocument]:
    return [point for point in findings.measured if point["num_parameters"]]


def _front(findings: Findings) -> list[PointDocument]:
    numbers = set(findings.report["pareto"])
    return [point for point in _sized(findings) if point["point_number"] in numbers]


def _places(points: Sequence[PointDocument | None], low: float) -> tuple[list[int], list[float]]:
    known = [point for point in points if point]
    return [point["num_parameters"] for point in known], [max(low, accuracy(point)) for point in known]


def _draw_points(figure: SubFigure, axes: Axes, points: list[PointDocument], low: float) -> None:
    """Draw the points, coloured by epochs to the plateau, grey if these are not known."""
    known = [point["mean_epochs_to_plateau"] for point in points if point["mean_epochs_to_plateau"] is not None]
    norm = Normalize(min(known, default=0), max(*known, min(known) + 1) if known else 1)
    colours = ScalarMappable(norm, CONTINUOUS)
    for is_below in (False, True):
        group = [point for point in points if (accuracy(point) < low) is is_below]
        if not group:
            continue
        axes.scatter(
            *_places(group, low),
            c=[
                GREY if point["mean_epochs_to_plateau"] is None else colours.cmap(norm(point["mean_epochs_to_plateau"]))
                for point in group
            ],
            s=38,
            marker="v" if is_below else "o",
            edgecolors="white",
            linewidths=0.5,
            clip_on=not is_below,
            zorder=3 if is_below else 2,
        )
    if known:
        bar = figure.colorbar(colours, ax=axes, label="mean epochs to the plateau", pad=0.02)
        bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_steps(axes: Axes, front: list[PointDocument]) -> None:
    """Draw the highest accuracy up to each size. Points of the front may lie below it: epochs are their third aim."""
    sizes: list[int] = []
    heights: list[float] = []
    for point in sorted(front, key=lambda point: (point["num_parameters"], -accuracy(point))):
        if not heights or accuracy(point) > heights[-1]:
            sizes.append(point["num_parameters"])
            heights.append(accuracy(point))
    if len(sizes) > 1:
        right = axes.get_xlim()[1]
        axes.step([*sizes, right], [*heights, heights[-1]], where="post", color=INK, linewidth=1.1, alpha=0.6, zorder=1)


def _explain(axes: Axes, findings: Findings, is_any_below: bool) -> None:
    axes.plot([], [], "o", color=GREY, markersize=6, label="point")
    axes.plot([], [], "o", markersize=11, markeredgecolor=INK, fillstyle="none", label="Pareto front, numbered")
    axes.plot([], [], "*", color=VERMILION, markersize=12, markeredgecolor="white", label=f"{findings.best_word} point")
    if is_any_below:
        axes.plot([], [], "v", color=GREY, markersize=6, label="below the axis")
    legend_below(axes, columns=4)
