"""Chooses a point of a sweep by folds of the train split, in the transaction that ends the last fold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.run_config import RunConfig
from app.tables import Run, RunStatus, SavedModel, Sweep, new_id

RULE = "the smallest model within one standard error of the best mean"


@dataclass(frozen=True)
class FoldScore:
    """The score of a trial's saved model on its fold."""

    point_number: int
    fold: int
    val_accuracy: float
    num_parameters: int


@dataclass(frozen=True)
class PointScore:
    """The score of a point over its folds."""

    point_number: int
    mean: float
    standard_error: float  # of the mean, over folds
    num_parameters: float  # mean over trials: a forest's trees differ from fold to fold


def choose(scores: Sequence[FoldScore], *, num_folds: int, repeats: int) -> PointScore | None:
    """Choose the smallest model within one standard error of the best mean (Breiman et al., 1984; Hastie et al., 7.10).

    The better mean decides between equally small models, then the lower number. Points that miss a trial are left out;
    the result is None if no point is left.
    """
    by_point: dict[int, list[FoldScore]] = defaultdict(list)
    for score in scores:
        by_point[score.point_number].append(score)
    complete = {number: each for number, each in by_point.items() if len(each) == num_folds * repeats}
    points = [summarize(number, each) for number, each in complete.items()]
    if not points:
        return None
    best = max(points, key=lambda point: point.mean)
    good = [point for point in points if point.mean >= best.mean - best.standard_error]
    return min(good, key=lambda point: (point.num_parameters, -point.mean, point.point_number))


def summarize(point_number: int, scores: Sequence[FoldScore]) -> PointScore:
    """Return the mean over folds and its standard error; repeats are averaged within their fold first."""
    by_fold: dict[int, list[float]] = defaultdict(list)
    for score in scores:
        by_fold[score.fold].append(score.val_accuracy)
    means = [fmean(each) for each in by_fold.values()]
    error = stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0
    return PointScore(point_number, fmean(means), error, fmean(score.num_parameters for score in scores))


@dataclass(frozen=True)
class FinalRun:
    """The run that is to train the chosen point on the whole train split."""

    config: RunConfig
    columns: Mapping[str, Any]  # columns of the run's row


def conclude(session: Session, trial: Run) -> FinalRun | None:
    """Return the final run of a sweep if none of its trials is unfinished, else None.

    None also if the sweep is cancelled or has its choice already, or if no point has all its folds.

    The choice is stored in the sweep's row. The row is locked, so that of two workers that end the last folds at once,
    one sees both results.
    """
    session.flush()
    sweep = session.get_one(Sweep, trial.sweep_id, with_for_update=True, populate_existing=True)
    if sweep.is_cancelled or sweep.choice is not None or sweep.num_folds is None or _has_unfinished(session, sweep):
        return None
    chosen = choose(_read_scores(session, sweep), num_folds=sweep.num_folds, repeats=sweep.repeats)
    if chosen is None:
        return None
    sample = session.scalars(
        select(Run).where(Run.sweep_id == sweep.id, Run.point_number == chosen.point_number).order_by(Run.trial_number)
    ).first()
    assert sample is not None, "it has been scored"
    whole = {**sample.config, "split": {**sample.config["split"], "fold": None}}
    columns = {
        "id": new_id(),
        "sweep_id": sweep.id,
        "trial_number": sweep.num_trials,
        "point_number": chosen.point_number,
        "name": sweep.name,
        "tags": dict(sample.tags),
        "priority": sweep.priority,
    }
    sweep.choice = {
        "point_number": chosen.point_number,
        "mean_val_accuracy": chosen.mean,
        "standard_error": chosen.standard_error,
        "final_run_id": columns["id"],
    }
    return FinalRun(RunConfig.model_validate(whole), columns)


def _has_unfinished(session: Session, sweep: Sweep) -> bool:
    unfinished = [status for status in RunStatus if not status.is_finished()]
    query = select(Run.id).where(Run.sweep_id == sweep.id, Run.status.in_(unfinished))
    return session.scalar(query.limit(1)) is not None


def _read_scores(session: Session, sweep: Sweep) -> list[FoldScore]:
    query = select(Run.point_number, Run.fold, SavedModel.val_accuracy, SavedModel.num_parameters)
    query = query.join(SavedModel, SavedModel.run_id == Run.id)
    rows = session.execute(query.where(Run.sweep_id == sweep.id, Run.status == RunStatus.SUCCEEDED))
    return [FoldScore(point or 0, fold or 0, accuracy, parameters) for point, fold, accuracy, parameters in rows]
