"""Queries over a run's metrics and evaluations."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import Evaluation, Metric

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


def read_gradients(session: Session, run_id: str) -> tuple[list[int], list[list[float]]]:
    """Return a network's evaluated epochs, and for each epoch the gradient norm of every layer."""
    query = select(Metric.epoch, Metric.gradient_norms).where(Metric.run_id == run_id).order_by(Metric.epoch)
    rows = [(epoch, norms) for epoch, norms in session.execute(query) if norms is not None]
    return [epoch for epoch, _ in rows], [norms for _, norms in rows]


def get_evaluation(session: Session, run_id: str, split: str) -> Evaluation | None:
    return session.get(Evaluation, (run_id, split))
