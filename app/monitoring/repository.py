"""Counts over the queue: few queries, all over one snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.models import repository as models
from app.tables import Run, RunStatus, SavedModel


@dataclass(frozen=True)
class RunCounts:
    """The number of runs by state, the oldest queued run and the training speed."""

    by_status: dict[RunStatus, int]
    oldest_queued_at: datetime | None
    epochs_per_second: float  # sum over all runs in training


def count_runs(session: Session) -> RunCounts:
    columns = (Run.status, func.count(), func.min(Run.created_at), func.sum(Run.epochs_per_second))
    rows = session.execute(select(*columns).group_by(Run.status)).all()
    oldest = {status: created_at for status, _, created_at, _ in rows}
    speeds = {status: speed or 0.0 for status, _, _, speed in rows}
    return RunCounts(
        by_status=dict.fromkeys(RunStatus, 0) | {status: number for status, number, _, _ in rows},
        oldest_queued_at=oldest.get(RunStatus.QUEUED),
        epochs_per_second=speeds.get(RunStatus.RUNNING, 0.0),
    )


def get_champion(session: Session) -> SavedModel | None:
    """Return the champion's saved model; None if there is none."""
    promotion = models.get_champion(session)
    return None if promotion is None else session.get(SavedModel, promotion.run_id)
