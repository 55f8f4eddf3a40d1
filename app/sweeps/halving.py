"""Asynchronous successive halving: a trial that reaches a rung is judged against all that have.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning" (ASHA), MLSys 2020.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.tables import Metric, Run


def rung_epochs(epochs: int, *, rungs: int, reduction: int) -> tuple[int, ...]:
    """Return the epochs of the rungs (epochs / reduction, epochs / reduction², …), ascending and at least 1."""
    found = {epochs // reduction**rung for rung in range(1, rungs + 1)}
    return tuple(sorted(found - {0, epochs}))


class Standing(NamedTuple):
    """A trial's quality at a rung: higher accuracy is better, then lower loss, both on val."""

    accuracy: float
    minus_loss: float


def read_rung(session: Session, sweep_id: str, epoch: int, *, excluding: Collection[str]) -> list[Standing]:
    """Return the standings of a sweep's trials at an epoch, except those of the runs in `excluding`."""
    query = select(Metric.val_accuracy, -Metric.val_loss).join(Run, Run.id == Metric.run_id)
    query = query.where(Run.sweep_id == sweep_id, Metric.epoch == epoch, Run.id.not_in(excluding))
    return [Standing(*row) for row in session.execute(query)]


def find_hopeless(judged: Mapping[str, Standing], others: Collection[Standing], reduction: int) -> set[str]:
    """Return the judged trials outside the best `1/reduction`, at least one, of all that have reached the rung.

    Args:
        judged: Standings of the trials that have just reached the rung, by run id.
        others: Standings of the trials that reached it before.
        reduction: One trial in this many continues.
    """
    standings = sorted([*judged.values(), *others], reverse=True)
    last_good = standings[max(1, len(standings) // reduction) - 1]
    return {run_id for run_id, standing in judged.items() if standing < last_good}
