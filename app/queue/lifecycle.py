"""The states of a run and the transitions between them. Each one writes its event; callers have locked the run's row.

    queued ──▶ running ──▶ succeeded, failed, cancelled
     ▲ │ │        │
     │ │ └────────┼──▶ cancelled
     │ └────────┐ │
     │          ▼ ▼
     └───────── paused ──▶ cancelled

A running run also goes back to queued when its worker releases it or is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, insert, update
from sqlalchemy.orm import Session

from app.database import utc_now
from app.events import journal
from app.queue import cross_validation, sweep_ends
from app.run_config import CONFIG_VERSION, RunConfig
from app.run_costs import stack_key
from app.tables import EventType, Run, RunStatus

MAX_CRASHES_WITHOUT_PROGRESS = 3


def enter_queue(session: Session, run: Run) -> None:
    """Queue a new run, or put a running one back into the queue."""
    _leave_worker(run, RunStatus.QUEUED)
    journal.record(session, run, EventType.QUEUED, status=run.status, epoch=run.epoch)


def queue_all(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Queue new runs, thousands at once: inserting them as ORM objects would hold the write lock for a second."""
    session.execute(insert(Run), rows)
    for row in rows:
        data = {"status": RunStatus.QUEUED, "epoch": 0}
        journal.record_for(session, EventType.QUEUED, run_id=row["id"], sweep_id=row["sweep_id"], data=data)


def cancel_all(session: Session, sweep_id: str, runs: Sequence[Row[str, RunStatus, int]]) -> None:
    """Cancel runs of a cancelled sweep, thousands at once; for those that a worker has, only request it."""
    of_sweep = update(Run).where(Run.sweep_id == sweep_id).execution_options(synchronize_session=False)
    session.execute(of_sweep.where(Run.status == RunStatus.RUNNING).values(cancel_requested=True))
    ended: dict[str, Any] = {"status": RunStatus.CANCELLED, "finished_at": utc_now(), "epochs_per_second": None}
    ended |= dict.fromkeys(("cancel_requested", "pause_requested"), False)
    session.execute(of_sweep.where(Run.status.in_((RunStatus.QUEUED, RunStatus.PAUSED))).values(ended))
    for run_id, status, epoch in runs:
        if status is not RunStatus.RUNNING:
            data = {"status": RunStatus.CANCELLED, "epoch": epoch}
            journal.record_for(session, EventType.CANCELLED, run_id=run_id, sweep_id=sweep_id, data=data)
            sweep_ends.note(session, sweep_id)


def pause(session: Session, run: Run) -> None:
    _leave_worker(run, RunStatus.PAUSED)
    run.pause_requested = False
    journal.record(session, run, EventType.PAUSED, status=run.status, epoch=run.epoch)


def resume(session: Session, run: Run) -> None:
    """Put a paused run back to its place in the queue."""
    run.status = RunStatus.QUEUED
    journal.record(session, run, EventType.RESUMED, status=run.status, epoch=run.epoch)


def release(session: Session, run: Run) -> None:
    """Release a run that its worker stops at an epoch boundary: by request, or because the worker itself ends."""
    if run.cancel_requested:
        end(session, run, RunStatus.CANCELLED)
    elif run.pause_requested:
        pause(session, run)
    else:
        enter_queue(session, run)


def record_worker_loss(session: Session, run: Run) -> None:
    """Record that a run's worker or trainer died, or that its stack raised an error; what was not committed is lost."""
    run.crashes_without_progress += 1
    crashes = run.crashes_without_progress
    lost = {"worker": run.worker, "claim_number": run.claim_number, "crashes_without_progress": crashes}
    journal.record(session, run, EventType.WORKER_LOST, epoch=run.epoch, **lost)
    if crashes >= MAX_CRASHES_WITHOUT_PROGRESS and not run.cancel_requested:
        detail = f"{crashes} workers in a row were lost over this run without any progress."
        end(session, run, RunStatus.FAILED, code="worker_lost", detail=detail)
    else:
        release(session, run)


def end(session: Session, run: Run, status: RunStatus, *, code: str | None = None, detail: str | None = None) -> None:
    """Move a run to a final state; the last trial of a cross-validation also queues the sweep's final run."""
    _leave_worker(run, status)
    run.finished_at = utc_now()
    run.cancel_requested = run.pause_requested = False
    run.error_code, run.error_detail = code, detail
    data: dict[str, Any] = {"status": status, "epoch": run.epoch}
    if status is RunStatus.SUCCEEDED:
        best = {"epoch": run.best_epoch, "val_accuracy": run.best_val_accuracy, "val_loss": run.best_val_loss}
        data["best"] = best
    elif status is RunStatus.FAILED:
        data["error"] = {"code": code, "detail": detail}
    journal.record(session, run, EventType(status.value), **data)
    if run.sweep_id is not None:
        sweep_ends.note(session, run.sweep_id)
    if run.fold is not None and run.sweep_id is not None:
        final = cross_validation.conclude(session, run)
        if final is not None:
            queued = new_run(final.config, **final.columns)
            session.add(queued)
            session.flush()
            enter_queue(session, queued)


def new_run(config: RunConfig, **columns: Any) -> Run:
    """Make the row of a run; once it is in the session, `enter_queue` queues it."""
    return Run(**new_row(config, **columns))


def new_row(config: RunConfig, **columns: Any) -> dict[str, Any]:
    """Make the row of a run as plain columns, for `queue_all`."""
    return dict(
        model_kind=config.model.kind,
        config=config.model_dump(),
        config_version=CONFIG_VERSION,
        device=config.device,
        stack_key=stack_key(config),
        seed=config.seed,
        epochs=config.epochs,
        num_parameters=config.num_parameters,
        fold=None if config.split.fold is None else config.split.fold.number,
        **columns,
    )


def _leave_worker(run: Run, status: RunStatus) -> None:
    run.status = status
    run.worker = run.lease_expires_at = run.lease_seconds = None
    if not status.is_finished():
        run.epochs_per_second = None
