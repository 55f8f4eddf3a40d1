"""Builds a sweep's response model; the state of a sweep derives from its trials."""

from __future__ import annotations

from datetime import datetime

from app.database import utc_now
from app.queue.sweep_ends import status_at_end
from app.sweeps.repository import TrialCounts
from app.sweeps.schemas import BestTrial, CrossValidation, SuccessiveHalving, SweepProgress, SweepStatus, SweepView
from app.tables import Run, RunStatus, Sweep


def view(sweep: Sweep, tally: TrialCounts, best: Run | None, *, with_points: bool = True) -> SweepView:
    """Return the response model of a sweep, from its run counts and its best run."""
    status = status_of(sweep, tally)
    counts = {each.value: tally.count(each) for each in RunStatus}
    return SweepView(
        **{name: getattr(sweep, name) for name in _SAME_NAME},
        status=status,
        num_points=len(sweep.points),
        points=sweep.points if with_points else None,
        cross_validation=None if sweep.num_folds is None else CrossValidation(folds=sweep.num_folds),
        stopping=None if sweep.stopping is None else SuccessiveHalving.model_validate(sweep.stopping),
        progress=SweepProgress(
            trials=sum(counts.values()),
            **counts,
            epochs_done=tally.epochs_done,
            epochs=tally.epochs,
            eta_seconds=_eta(tally, utc_now()) if status == "running" else None,
        ),
        best=None if best is None or sweep.num_folds is not None else _best(sweep, best),
        final_run_id=None if sweep.choice is None else sweep.choice["final_run_id"],
        finished_at=None if tally.num_unfinished else tally.finished_at,
    )


def status_of(sweep: Sweep, tally: TrialCounts) -> SweepStatus:
    """Return the state: `running` from the first start to the last end, unless all unfinished trials are paused."""
    if not tally.num_unfinished:
        has = {"has_folds": sweep.num_folds is not None, "has_choice": sweep.choice is not None}
        return status_at_end(tally.by_status, is_cancelled=sweep.is_cancelled, **has)
    if tally.num_unfinished == tally.count(RunStatus.PAUSED):
        return "paused"
    is_untouched = tally.started_at is None and tally.finished_at is None
    return "queued" if is_untouched else "running"


def _eta(tally: TrialCounts, now: datetime) -> float | None:
    """Return the seconds left if the remaining epochs go as fast as those since the first start."""
    if tally.started_at is None or not tally.epochs_done:
        return None
    seconds = (now - tally.started_at).total_seconds()
    return seconds * (tally.epochs - tally.epochs_done) / tally.epochs_done


def _best(sweep: Sweep, run: Run) -> BestTrial:
    number = run.point_number or 0
    return BestTrial(
        run_id=run.id,
        trial_number=run.trial_number or 0,
        point_number=number,
        parameters=sweep.points[number],
        val_accuracy=run.best_val_accuracy or 0.0,
    )


_COMPOSED = (
    *("status", "num_points", "points", "cross_validation", "stopping", "progress", "best", "final_run_id"),
    "finished_at",
)
_SAME_NAME = [name for name in SweepView.model_fields if name not in _COMPOSED]
