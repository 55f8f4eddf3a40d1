"""Queries over a run's metrics and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.runs.repository import thinned_epochs
from app.tables import Evaluation, Metric, Run

CURVES = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "train_eval_loss",
    "train_eval_accuracy",
    "val_loss",
    "val_accuracy",
)


def newest_metric(session: Session, run_id: str) -> Metric | None:
    return session.scalar(select(Metric).where(Metric.run_id == run_id).order_by(Metric.epoch.desc()).limit(1))


def read_columns(session: Session, run_id: str) -> dict[str, list[float]]:
    """Return a run's losses and accuracies by epoch, one list per column."""
    query = select(*(getattr(Metric, name) for name in CURVES)).where(Metric.run_id == run_id).order_by(Metric.epoch)
    columns = zip(*session.execute(query), strict=True)
    found = dict(zip(CURVES, map(list, columns), strict=False))
    return {name: found.get(name, []) for name in CURVES}


def list_run_ids(session: Session, which: ColumnElement[bool], *, limit: int, after: str | None) -> Sequence[str]:
    """Return the ids of runs, oldest first."""
    query = select(Run.id).where(which).order_by(Run.id).limit(limit)
    return session.scalars(query if after is None else query.where(Run.id > after)).all()


def read_series(
    session: Session, run_ids: Sequence[str], columns: Sequence[str], points: int
) -> dict[str, dict[str, Any]]:
    """Return columns of several runs' metrics, thinned to about `points` epochs each, in one query.

    Returns:
        By run id: `of`, the number of evaluated epochs; `epochs`; and the values of each column at these epochs.
    """
    series: dict[str, dict[str, Any]] = {
        run_id: {"run_id": run_id, "of": 0, "epochs": [], **{name: [] for name in columns}} for run_id in run_ids
    }
    kept = thinned_epochs(run_ids, points)
    query = select(kept.c.run_id, kept.c.of, Metric.epoch, *(getattr(Metric, name) for name in columns))
    query = query.join(Metric, (Metric.run_id == kept.c.run_id) & (Metric.epoch == kept.c.epoch))
    for run_id, number, epoch, *values in session.execute(query.order_by(kept.c.run_id, Metric.epoch)):
        found = series[run_id]
        found["of"] = number
        found["epochs"].append(epoch)
        for name, value in zip(columns, values, strict=True):
            found[name].append(value)
    return series


def read_gradients(session: Session, run_id: str) -> tuple[list[int], list[list[float]]]:
    """Return a network's evaluated epochs, and for each epoch the gradient norm of every layer."""
    query = select(Metric.epoch, Metric.gradient_norms).where(Metric.run_id == run_id).order_by(Metric.epoch)
    rows = [(epoch, norms) for epoch, norms in session.execute(query) if norms is not None]
    return [epoch for epoch, _ in rows], [norms for _, norms in rows]


def get_evaluation(session: Session, run_id: str, split: str) -> Evaluation | None:
    return session.get(Evaluation, (run_id, split))
