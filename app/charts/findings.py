"""Prepares a sweep's report for the panels of its picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.charts.scales import robust_limits

PointDocument = dict[str, Any]
UNENDED = {"queued", "running", "paused"}


@dataclass(frozen=True)
class Findings:
    """A sweep's report, prepared for the picture. Accuracies are in percent."""

    report: dict[str, Any]
    curves: dict[str, dict[str, Any]]
    measured: list[PointDocument]  # points that have a mean val accuracy
    is_on_folds: bool
    best: PointDocument | None
    best_word: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> Findings:
        report = data["report"]
        measured = [point for point in report["points"] if point["mean_val_accuracy"] is not None]
        choice = report["choice"]
        best = measured[0] if measured else None
        if choice is not None:
            best = next((point for point in measured if point["point_number"] == choice["point_number"]), best)
        return cls(
            report=report,
            curves=data.get("curves") or {},
            measured=measured,
            is_on_folds=choice is not None or any(trial["fold"] is not None for trial in report["trials"]),
            best=best,
            best_word="best" if choice is None else "chosen",
        )

    @property
    def accuracy_label(self) -> str:
        return "accuracy on folds of train (%)" if self.is_on_folds else "val accuracy (%)"

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Limits of the panels' y axes, from the points' accuracies ± standard errors."""
        return robust_limits(
            [accuracy(point) + sign * standard_error(point) for point in self.measured for sign in (-1, 1)]
        )

    @property
    def emptiness(self) -> str:
        """The reason why there is nothing to draw."""
        statuses = {trial["status"] for trial in self.report["trials"]}
        if statuses and not statuses & UNENDED:
            return "no trial has succeeded"
        return "no trial has ended yet" if statuses <= UNENDED else "no trial has succeeded yet"


def accuracy(point: PointDocument) -> float:
    return 100 * float(point["mean_val_accuracy"])


def standard_error(point: PointDocument) -> float:
    """Return the standard error over the point's own repeats or folds, in percent; 0 for a single trial."""
    return 100 * float(point["standard_error"] or 0)
