"""Queries over sweeps and their trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, case, func, select
from sqlalchemy.orm import Session

from app.sweeps.report import PLATEAU, ROUNDING, TrialRow
from app.tables import Metric, Run, RunStatus, SavedModel, Sweep

_FINISHED = [status for status in RunStatus if status.is_finished()]


@dataclass
class TrialCounts:
    """Counts over a sweep's runs."""

    by_status: dict[RunStatus, int] = field(default_factory=dict)
    epochs_done: int = 0  # the epochs that an early-ended run skipped count as done
    epochs: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None

    def count(self, *statuses: RunStatus) -> int:
        return sum(self.by_status.get(status, 0) for status in statuses)

    @property
    def num_unfinished(self) -> int:
        return self.count(RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)


def get(session: Session, sweep_id: str) -> Sweep | None:
    return session.get(Sweep, sweep_id)


def lock(session: Session, sweep_id: str) -> Sweep | None:
    """Return a sweep's current row, locked until the transaction ends; callers lock its runs first."""
    return session.get(Sweep, sweep_id, with_for_update=True, populate_existing=True)


def list_sweeps(session: Session, *, limit: int, before: str | None) -> Sequence[Sweep]:
    """Return sweeps, newest first."""
    query = select(Sweep).order_by(Sweep.id.desc()).limit(limit)
    return session.scalars(query if before is None else query.where(Sweep.id < before)).all()


def tally(session: Session, sweep_ids: Collection[str]) -> dict[str, TrialCounts]:
    """Count the runs of each of these sweeps."""
    done = case((Run.status.in_(_FINISHED), Run.epochs), else_=Run.epoch)
    columns = (func.count(), func.sum(done), func.sum(Run.epochs), func.min(Run.started_at), func.max(Run.finished_at))
    query = select(Run.sweep_id, Run.status, *columns).where(Run.sweep_id.in_(sweep_ids))
    tallies = {sweep_id: TrialCounts() for sweep_id in sweep_ids}
    for sweep_id, status, number, epochs_done, epochs, started_at, finished_at in session.execute(
        query.group_by(Run.sweep_id, Run.status)
    ):
        found = tallies[sweep_id or ""]
        found.by_status[status] = number
        found.epochs_done += epochs_done
        found.epochs += epochs
        found.started_at = min(filter(None, (found.started_at, started_at)), default=None)
        found.finished_at = max(filter(None, (found.finished_at, finished_at)), default=None)
    return tallies


def best_trials(session: Session, sweep_ids: Collection[str]) -> dict[str, Run]:
    """Return each sweep's best run so far: the highest val accuracy, then the lowest val loss, then the first trial."""
    order = (Run.best_val_accuracy.desc(), Run.best_val_loss, Run.trial_number)
    place = func.row_number().over(partition_by=Run.sweep_id, order_by=order)
    query = select(Run.id, place.label("place")).where(Run.sweep_id.in_(sweep_ids), Run.best_val_accuracy.is_not(None))
    ranked = query.subquery()
    found = session.scalars(select(Run).where(Run.id.in_(select(ranked.c.id).where(ranked.c.place == 1))))
    return {run.sweep_id or "": run for run in found}


def lock_runs(session: Session, sweep_id: str, *, only_unfinished: bool = False) -> Sequence[Row[str, RunStatus, int]]:
    """Lock a sweep's runs until the transaction ends; return their ids, states and epochs.

    The rows are locked by ascending id, as in every transaction that locks runs.
    """
    query = select(Run.id, Run.status, Run.epoch).where(Run.sweep_id == sweep_id).order_by(Run.id).with_for_update()
    if only_unfinished:
        query = query.where(Run.status.not_in(_FINISHED))
    return session.execute(query).all()


def read_trials(session: Session, sweep_id: str) -> list[TrialRow]:
    """Return a sweep's trials with values from their saved models and metrics, without cross-validation's final run."""
    plateaus, full_train = _plateaus(session, sweep_id), _first_full_train_epochs(session, sweep_id)
    query = select(Run, SavedModel.val_accuracy, SavedModel.val_loss, SavedModel.train_accuracy)
    query = query.outerjoin(SavedModel, SavedModel.run_id == Run.id).join(Sweep, Sweep.id == Run.sweep_id)
    query = query.where(Run.sweep_id == sweep_id, Run.trial_number < Sweep.num_trials).order_by(Run.trial_number)
    return [
        TrialRow(
            run_id=run.id,
            trial_number=run.trial_number or 0,
            point_number=run.point_number or 0,
            seed=run.seed,
            fold=run.fold,
            status=run.status.value,
            error=run.error_code,
            epoch=run.epoch,
            is_ended_early=run.status is RunStatus.SUCCEEDED and run.epoch < run.epochs,
            val_accuracy=val_accuracy,
            val_loss=val_loss,
            train_accuracy=train_accuracy,
            shifted_accuracy=run.shifted_accuracy,
            shifted_standard_error=run.shifted_standard_error,
            best_epoch=run.best_epoch,
            plateau=plateaus.get(run.id),
            full_train_epoch=full_train.get(run.id),
            num_parameters=run.num_parameters,
        )
        for run, val_accuracy, val_loss, train_accuracy in session.execute(query)
    ]


def _plateaus(session: Session, sweep_id: str) -> dict[str, tuple[int, float]]:
    """Return, by run id, the first evaluated epoch within `PLATEAU` of the best val accuracy, and its seconds."""
    first = select(Metric.run_id, func.min(Metric.epoch).label("epoch")).join(Run, Run.id == Metric.run_id)
    first = first.where(Run.sweep_id == sweep_id, Metric.val_accuracy >= Run.best_val_accuracy - PLATEAU - ROUNDING)
    found = first.group_by(Metric.run_id).subquery()
    query = select(Metric.run_id, Metric.epoch, Metric.seconds)
    query = query.join(found, (found.c.run_id == Metric.run_id) & (found.c.epoch == Metric.epoch))
    return {run_id: (epoch, seconds) for run_id, epoch, seconds in session.execute(query)}


def _first_full_train_epochs(session: Session, sweep_id: str) -> dict[str, int]:
    """Return, by run id, the first evaluated epoch at 100 % on train, dropout off."""
    query = select(Metric.run_id, func.min(Metric.epoch)).join(Run, Run.id == Metric.run_id)
    query = query.where(Run.sweep_id == sweep_id, Metric.train_eval_accuracy >= 1 - ROUNDING)
    return dict(iter(session.execute(query.group_by(Metric.run_id))))


def fingerprint(session: Session, sweep_id: str) -> list[list[Any]]:
    """Return values that differ where the sweep's report does and no event tells of it, without reading its trials.

    What is evaluated later has no event: it changes the number of values that are not null.
    """
    later = [func.count(column) for column in Run.__table__.columns if column.nullable]
    query = select(Run.status, func.count(), func.sum(Run.epoch), func.sum(Run.claim_number), *later)
    query = query.where(Run.sweep_id == sweep_id).group_by(Run.status).order_by(Run.status)
    return [[*row] for row in session.execute(query)]


def read_curves(session: Session, sweep_id: str) -> dict[str, dict[str, list[float]]]:
    """Return, by run id, val accuracy over the evaluated epochs."""
    query = select(Metric.run_id, Metric.epoch, Metric.val_accuracy).join(Run, Run.id == Metric.run_id)
    query = query.where(Run.sweep_id == sweep_id)
    curves: dict[str, dict[str, list[float]]] = {}
    for run_id, epoch, val_accuracy in session.execute(query.order_by(Metric.run_id, Metric.epoch)):
        curve = curves.setdefault(run_id, {"epochs": [], "val_accuracy": []})
        curve["epochs"].append(epoch)
        curve["val_accuracy"].append(val_accuracy)
    return curves
