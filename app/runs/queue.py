"""The run queue: claim, renew, fence, release, finish. Every function works inside the caller's writing transaction.

A claim's number is its fencing token: it only ever grows, every write of a worker names it, and a worker whose run was
claimed by another can write nothing more (M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from app.database import database_now, utc_now
from app.tables import Run, RunStatus, new_id

MAX_CRASHES_WITHOUT_PROGRESS = 3


@dataclass(frozen=True)
class Claim:
    """A worker's right to train a run and to write its results."""

    run_id: str
    claim_number: int


class StaleClaim(Exception):
    """The run is no longer this worker's: its lease ran out and was taken over, or the run was ended."""


def claim(session: Session, *, worker: str, devices: Collection[str], lease_seconds: float) -> Claim | None:
    """Take the first claimable run: the highest priority, then the oldest; None when there is none.

    Args:
        session: A writing session.
        worker: The name of the worker that claims.
        devices: What runs may ask for to be trained by this worker, `auto` included.
        lease_seconds: How long the claim holds without a renewal.
    """
    end_expired_leases(session)
    query = select(Run).where(Run.status == RunStatus.QUEUED, Run.device.in_(devices))
    query = query.order_by(Run.priority.desc(), Run.id).limit(1).with_for_update(skip_locked=True)
    run = session.scalar(query)
    if run is None:
        return None
    run.status = RunStatus.RUNNING
    run.claim_number += 1
    run.worker = worker
    run.lease_expires_at = _now(session) + lease_seconds
    run.stack_id, run.stack_size = new_id(), 1
    run.started_at = run.started_at or utc_now()
    session.flush()
    return Claim(run.id, run.claim_number)


def end_expired_leases(session: Session) -> None:
    """Give back to the queue what workers hold that have not renewed in time."""
    expired = select(Run).where(Run.status == RunStatus.RUNNING, Run.lease_expires_at < database_now())
    for run in session.scalars(expired.with_for_update(skip_locked=True)):
        _lose(run)
    session.flush()


def renew(session: Session, claims: Sequence[Claim], lease_seconds: float) -> dict[Claim, bool]:
    """Prolong the leases; returns, for each claim still held, whether its run is to be cancelled."""
    held: dict[Claim, bool] = {}
    for each in claims:
        renewal = (
            update(Run)
            .where(*_is_held(each))
            .values(lease_expires_at=database_now() + lease_seconds)
            .returning(Run.cancel_requested)
            .execution_options(synchronize_session=False)
        )
        is_cancelled = session.scalar(renewal)
        if is_cancelled is not None:
            held[each] = is_cancelled
    return held


def fence(session: Session, held: Claim) -> Run:
    """The claim's run, locked for this transaction.

    Raises:
        StaleClaim: The claim no longer holds; nothing may be written in its name.
    """
    run = session.scalar(select(Run).where(*_is_held(held)).with_for_update())
    if run is None:
        raise StaleClaim(f"run {held.run_id}, claim {held.claim_number}")
    return run


def release(session: Session, held: Claim) -> None:
    """Put a run back into the queue, unharmed: a worker's clean stop counts nothing."""
    run = fence(session, held)
    if run.cancel_requested:
        end(run, RunStatus.CANCELLED)
    else:
        _enqueue(run)


def report_crash(session: Session, held: Claim) -> None:
    """The worker's child died over this run."""
    _lose(fence(session, held))


def end(run: Run, status: RunStatus, *, code: str | None = None, detail: str | None = None) -> None:
    """Move a run to a final state."""
    run.status = status
    run.finished_at = utc_now()
    run.worker = run.lease_expires_at = None
    run.cancel_requested = run.pause_requested = False
    run.error_code, run.error_detail = code, detail


def _lose(run: Run) -> None:
    run.crashes_without_progress += 1
    if run.cancel_requested:
        end(run, RunStatus.CANCELLED)
    elif run.crashes_without_progress >= MAX_CRASHES_WITHOUT_PROGRESS:
        detail = f"{run.crashes_without_progress} workers in a row were lost over this run without any progress."
        end(run, RunStatus.FAILED, code="worker_lost", detail=detail)
    else:
        _enqueue(run)


def _enqueue(run: Run) -> None:
    run.status = RunStatus.QUEUED
    run.worker = run.lease_expires_at = run.epochs_per_second = None


def _is_held(held: Claim) -> tuple[ColumnElement[bool], ...]:
    return Run.id == held.run_id, Run.claim_number == held.claim_number, Run.status == RunStatus.RUNNING


def _now(session: Session) -> float:
    return session.scalars(select(database_now())).one()
