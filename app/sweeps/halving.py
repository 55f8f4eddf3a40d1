"""Successive halving, asynchronously: a trial is judged when it reaches a rung, by those that have been there.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import Metric, Run


def rung_epochs(epochs: int, *, rungs: int, reduction: int) -> tuple[int, ...]:
    """Where trials are judged, in ascending order: epochs / reduction, epochs / reduction², …, from 1 on."""
    found = {epochs // reduction**rung for rung in range(1, rungs + 1)}
    return tuple(sorted(found - {0, epochs}))


class Standing(NamedTuple):
    """How good a trial is at a rung: the higher accuracy, then the lower loss, both on val."""

    accuracy: float
    minus_loss: float


def read_rung(session: Session, sweep_id: str, epoch: int, *, excluding: Collection[str]) -> list[Standing]:
    """How a sweep's trials, but for some, stood at an epoch."""
    query = select(Metric.val_accuracy, -Metric.val_loss).join(Run, Run.id == Metric.run_id)
    query = query.where(Run.sweep_id == sweep_id, Metric.epoch == epoch, Run.id.not_in(excluding))
    return [Standing(*row) for row in session.execute(query)]


def find_hopeless(judged: Mapping[str, Standing], others: Collection[Standing], reduction: int) -> set[str]:
    """Those that are not among the best `1/reduction`, at least one, of all that have reached the rung.

    Args:
        judged: The trials that have just reached it, by run id.
        others: Those that have been there before.
        reduction: One in how many goes on.
    """
    everyone = sorted([*judged.values(), *others], reverse=True)
    last_good = everyone[max(1, len(everyone) // reduction) - 1]
    return {run_id for run_id, standing in judged.items() if standing < last_good}
