"""Builds a sweep's report: ranking, noise, each parameter's effect, the Pareto front. Pure: rows in, report out.

A sweep has P points; each point has one trial for every repeat and fold.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import orjson

from app.queue.cross_validation import FoldScore, summarize
from app.sweeps.schemas import Noise, ParameterEffect, PointReport, TrialReport, ValueEffect

PLATEAU = 0.005  # half a point of val accuracy
ROUNDING = 1e-9
QUARTERS = 4
MAX_VALUES = 12  # a parameter with more values than this is reported in quarters


@dataclass(frozen=True)
class TrialRow:
    """A trial as the database stores it."""

    run_id: str
    trial_number: int
    point_number: int
    seed: int
    fold: int | None
    status: str
    error: str | None
    epoch: int
    is_ended_early: bool
    val_accuracy: float | None  # the saved model's, like the next two
    val_loss: float | None
    train_accuracy: float | None
    best_epoch: int | None
    plateau: tuple[int, float] | None  # epoch and seconds
    full_train_epoch: int | None
    num_parameters: int | None
    shifted_accuracy: float | None = None
    shifted_standard_error: float | None = None


def rank_trials(rows: Iterable[TrialRow], points: Sequence[Mapping[str, Any]]) -> list[TrialReport]:
    """Rank trials best first: val accuracy, val loss, fewest parameters, lowest trial number.

    A report ranks by val, whatever ranks champions: folds have val alone, and a point is compared by its mean.
    Trials without a saved model come last and get no rank.
    """

    def order(row: TrialRow) -> tuple[Any, ...]:
        if row.val_accuracy is None or row.val_loss is None:
            return (1, row.trial_number)
        return (0, -row.val_accuracy, row.val_loss, row.num_parameters, row.trial_number)

    return [
        TrialReport(
            rank=None if row.val_accuracy is None else rank,
            parameters=dict(points[row.point_number]),
            epochs_to_plateau=row.plateau[0] if row.plateau else None,
            seconds_to_plateau=row.plateau[1] if row.plateau else None,
            epochs_to_full_train_accuracy=row.full_train_epoch,
            **{name: getattr(row, name) for name in _SAME_NAME},
        )
        for rank, row in enumerate(sorted(rows, key=order), start=1)
    ]


_SAME_NAME = [name for name in TrialReport.model_fields if name in TrialRow.__dataclass_fields__]


def rank_points(trials: Iterable[TrialReport], points: Sequence[Mapping[str, Any]]) -> list[PointReport]:
    """Rank points best first: mean val accuracy, then fewest parameters, then number. Only succeeded trials count."""
    by_point: dict[int, list[TrialReport]] = defaultdict(list)
    for trial in trials:
        by_point[trial.point_number].append(trial)
    found = [_summarize(number, points[number], by_point[number]) for number in sorted(by_point)]
    found.sort(key=lambda point: (-(point.mean_val_accuracy or -1), point.num_parameters or 0, point.point_number))
    for rank, point in enumerate(found, start=1):
        point.rank = None if point.mean_val_accuracy is None else rank
    return found


def _summarize(number: int, values: Mapping[str, Any], trials: Sequence[TrialReport]) -> PointReport:
    done = [trial for trial in trials if trial.val_accuracy is not None]
    accuracies = [trial.val_accuracy for trial in done if trial.val_accuracy is not None]
    mean, error = _mean_and_error(number, done)
    return PointReport(
        rank=None,
        point_number=number,
        parameters=dict(values),
        num_trials=len(trials),
        num_succeeded=len(done),
        mean_val_accuracy=mean,
        standard_error=error,
        min_val_accuracy=min(accuracies, default=None),
        max_val_accuracy=max(accuracies, default=None),
        mean_shifted_accuracy=_mean(trial.shifted_accuracy for trial in done),
        mean_epochs_to_plateau=_mean(trial.epochs_to_plateau for trial in done),
        mean_seconds_to_plateau=_mean(trial.seconds_to_plateau for trial in done),
        num_parameters=_rounded(_mean(trial.num_parameters for trial in done)),
        is_within_noise=False,
        num_full_train_accuracy=sum(trial.epochs_to_full_train_accuracy is not None for trial in trials),
    )


def _mean_and_error(number: int, done: Sequence[TrialReport]) -> tuple[float | None, float | None]:
    """Return the mean val accuracy and its standard error, over folds (repeats are averaged first) or over repeats."""
    accuracies = [trial.val_accuracy for trial in done if trial.val_accuracy is not None]
    if not accuracies:
        return None, None
    if done[0].fold is None:
        return fmean(accuracies), stdev(accuracies) / math.sqrt(len(accuracies)) if len(accuracies) > 1 else None
    scores = [
        FoldScore(number, trial.fold or 0, trial.val_accuracy or 0.0, trial.num_parameters or 0) for trial in done
    ]
    summary = summarize(number, scores)
    return summary.mean, summary.standard_error if len({score.fold for score in scores}) > 1 else None


def judge_noise(points: Sequence[PointReport], *, with_folds: bool, num_val: int) -> Noise | None:
    """Mark the points that are worse than the best by no more than noise; find the smallest and quickest of them.

    Two means differ by noise if they are no further apart than the standard error of their difference, the root of the
    sum of their squared standard errors. If every point has a single trial, a mean's standard error is taken to be that
    of a share of `num_val` images, √(a(1 - a)/n); repeats give a better estimate.

    Args:
        points: Points, best first; their `is_within_noise` is set.
        with_folds: Whether trials were measured on folds.
        num_val: Number of images that a trial was measured on.
    """
    ranked = [point for point in points if point.mean_val_accuracy is not None]
    if not ranked:
        return None
    is_repeated = any(point.standard_error is not None for point in ranked)

    def error(point: PointReport) -> float:
        if is_repeated:
            return point.standard_error or 0.0
        accuracy = point.mean_val_accuracy or 0.0
        return math.sqrt(accuracy * (1 - accuracy) / num_val)

    best = ranked[0]
    good = []
    for point in ranked:
        difference = (best.mean_val_accuracy or 0.0) - (point.mean_val_accuracy or 0.0)
        if point is best or difference <= math.hypot(error(best), error(point)) + ROUNDING:
            point.is_within_noise = True
            good.append(point)
    smallest = min(good, key=lambda point: (point.num_parameters or 0, point.rank))
    quickest = min(good, key=lambda point: (point.mean_epochs_to_plateau or math.inf, point.rank))
    return Noise(
        kind=("folds" if with_folds else "repeats") if is_repeated else "images",
        best_point=best.point_number,
        standard_error=error(best),
        num_within_noise=len(good),
        smallest_point=smallest.point_number,
        quickest_point=quickest.point_number,
    )


def find_effects(points: Sequence[PointReport], paths: Sequence[str]) -> list[ParameterEffect]:
    """Measure each parameter's effect on the points' mean val accuracies, the strongest first."""
    ranked = [point for point in points if point.mean_val_accuracy is not None]
    effects = [_find_effect([point for point in ranked if path in point.parameters], path) for path in paths]
    return sorted(effects, key=lambda effect: -(effect.share_of_variance or 0.0))


def _find_effect(points: Sequence[PointReport], path: str) -> ParameterEffect:
    groups: dict[bytes, list[PointReport]] = defaultdict(list)
    for point in sorted(points, key=lambda each: each.point_number):
        groups[orjson.dumps(point.parameters[path], option=orjson.OPT_SORT_KEYS)].append(point)
    if len(groups) <= MAX_VALUES:
        values = [_value_effect(each[0].parameters[path], each) for each in groups.values()]
        if all(_is_number(value.value) for value in values):
            values.sort(key=lambda value: value.value)
        return ParameterEffect(path=path, share_of_variance=_share_of_variance(list(groups.values())), values=values)
    numbers = [point for point in points if _is_number(point.parameters[path])]
    numbers.sort(key=lambda point: point.parameters[path])
    quarters = [
        numbers[len(numbers) * part // QUARTERS : len(numbers) * (part + 1) // QUARTERS] for part in range(QUARTERS)
    ]
    return ParameterEffect(
        path=path,
        share_of_variance=None,
        values=[
            _value_effect([each[0].parameters[path], each[-1].parameters[path]], each) for each in quarters if each
        ],
    )


def _value_effect(value: Any, points: Sequence[PointReport]) -> ValueEffect:
    means = [point.mean_val_accuracy for point in points if point.mean_val_accuracy is not None]
    return ValueEffect(
        value=value,
        num_points=len(points),
        mean_val_accuracy=fmean(means),
        standard_error=stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None,
        best_val_accuracy=max(means),
        mean_epochs_to_plateau=_mean(point.mean_epochs_to_plateau for point in points),
    )


def _share_of_variance(groups: Sequence[Sequence[PointReport]]) -> float | None:
    """Return eta squared: sum of squares between groups over total sum of squares; None if the latter is zero."""
    values = [[point.mean_val_accuracy or 0.0 for point in group] for group in groups]
    everything = [value for group in values for value in group]
    if len(everything) < 2:
        return None
    mean = fmean(everything)
    total = sum((value - mean) ** 2 for value in everything)
    if total <= ROUNDING**2:
        return None
    return sum(len(group) * (fmean(group) - mean) ** 2 for group in values) / total


def find_pareto_front(points: Sequence[PointReport]) -> list[int]:
    """Return the numbers of the points that no other point dominates.

    A point dominates another if it is at least as good in accuracy, size and epochs to the plateau, and better in one.
    """

    def qualities(point: PointReport) -> tuple[float, float, float] | None:
        if point.mean_val_accuracy is None or point.num_parameters is None:
            return None
        quickness = -(math.inf if point.mean_epochs_to_plateau is None else point.mean_epochs_to_plateau)
        return point.mean_val_accuracy, -point.num_parameters, quickness

    found = {point.point_number: good for point in points if (good := qualities(point)) is not None}

    def is_beaten(mine: tuple[float, float, float]) -> bool:
        return any(
            other != mine and all(theirs >= own for theirs, own in zip(other, mine, strict=True))
            for other in found.values()
        )

    return [number for number, mine in found.items() if not is_beaten(mine)]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
