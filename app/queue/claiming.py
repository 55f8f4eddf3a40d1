"""The run queue: claim, renew, fence, release, by the database's clock. A run's states are in `lifecycle`.

Every function works inside the caller's transaction, a writing one for all but `has_work`. A claim's number is its
fencing token: it only ever grows, every write of a worker names it, and a worker whose run was claimed by another can
write nothing more (M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Select, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.database import database_now, utc_now
from app.events import journal
from app.queue import lifecycle
from app.queue.lease_watch import LeaseWatch
from app.run_config import RunConfig
from app.tables import EventType, Run, RunStatus, new_id

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])

SMALLER_STACKS = 4  # into how many a stack is divided after a worker was lost over it


@dataclass(frozen=True)
class Claim:
    """A worker's right to train a run and to write its results."""

    run_id: str
    claim_number: int


class StaleClaim(Exception):
    """The run is no longer this worker's: its lease ran out and was taken over, or the run was ended."""


def has_work(session: Session, devices: Collection[str], watch: LeaseWatch) -> bool:
    """Whether there is something to claim: it spares an idle worker the write lock."""
    expired = watch.find_expired(session)  # in any case: it has to look often
    is_queued = select(Run.id).where(Run.status == RunStatus.QUEUED, Run.device.in_(devices)).limit(1)
    return bool(expired) or session.scalar(is_queued) is not None


def claim_stack(
    session: Session,
    *,
    worker: str,
    devices: Collection[str],
    lease_seconds: float,
    max_stack_bytes: int,
    watch: LeaseWatch | None = None,
) -> list[Claim]:
    """Take the first claimable run, by priority, then by age, and others that can be trained with it.

    Args:
        session: A writing session.
        worker: The name of the worker that claims.
        devices: What runs may ask for to be trained by this worker, `auto` included.
        lease_seconds: How long the claims hold without a renewal.
        max_stack_bytes: Memory that the runs may take together; the first is taken in any case.
        watch: What this process has seen of leases; None: it looks for the first time.

    Returns:
        A claim for each run; none if there is nothing to do.
    """
    _end_expired_leases(session, watch or LeaseWatch(lease_seconds))
    claimable = select(Run).where(Run.status == RunStatus.QUEUED, Run.device.in_(devices))
    claimable = claimable.order_by(Run.priority.desc(), Run.id).with_for_update(skip_locked=True)
    first = session.scalar(claimable.limit(1))
    if first is None:
        return []
    run_ids = [first.id]
    limit = _stack_limit(first, max_stack_bytes)
    if limit > 1:
        others = claimable.with_only_columns(Run.id).where(
            Run.stack_key == first.stack_key,
            Run.epoch == first.epoch,
            Run.crashes_without_progress == first.crashes_without_progress,
            Run.id != first.id,
        )
        run_ids += session.scalars(others.limit(limit - 1))
    claiming = (
        update(Run)
        .where(Run.id.in_(run_ids))
        .values(
            status=RunStatus.RUNNING,
            claim_number=Run.claim_number + 1,
            worker=worker,
            lease_expires_at=database_now() + lease_seconds,
            lease_seconds=lease_seconds,
            stack_id=new_id(),
            stack_size=len(run_ids),
            started_at=func.coalesce(Run.started_at, utc_now()),
        )
        .returning(Run.id, Run.sweep_id, Run.claim_number, Run.epoch, Run.stack_id)
        .execution_options(synchronize_session=False)
    )
    rows = {row.id: row for row in session.execute(claiming)}
    claimed = [rows[run_id] for run_id in run_ids]
    for row in claimed:
        data = {"status": RunStatus.RUNNING, "epoch": row.epoch, "worker": worker, "claim_number": row.claim_number}
        data |= {"stack_id": row.stack_id, "stack_size": len(claimed)}
        journal.record_for(session, EventType.STARTED, run_id=row.id, sweep_id=row.sweep_id, data=data)
    return [Claim(row.id, row.claim_number) for row in claimed]


def _stack_limit(first: Run, max_stack_bytes: int) -> int:
    """How many runs may be trained together with a run, itself included.

    Runs over which a worker was just lost are tried in smaller stacks, and then alone: one of them may be to blame.
    """
    if first.stack_key is None or first.crashes_without_progress > 1:
        return 1
    try:
        run_bytes = RunConfig.model_validate(first.config).stack_bytes
    except ValidationError:  # the trainer says what is wrong with it
        return 1
    limit = max(1, max_stack_bytes // run_bytes)
    if first.crashes_without_progress == 1:
        limit = min(limit, math.ceil((first.stack_size or 1) / SMALLER_STACKS))
    return limit


def _end_expired_leases(session: Session, watch: LeaseWatch) -> None:
    """Give back to the queue what workers hold that have not renewed in time."""
    expired = watch.find_expired(session)
    if not expired:
        return
    # On Postgres a worker may have renewed since: its lease is another one then, and the run is not found.
    lease = tuple_(Run.id, Run.claim_number, Run.lease_expires_at)
    still_so = select(Run).where(Run.status == RunStatus.RUNNING, lease.in_(expired)).order_by(Run.id)
    for run in session.scalars(still_so.with_for_update(skip_locked=True)):
        lifecycle.record_worker_loss(session, run)
    session.flush()


def renew(session: Session, claims: Sequence[Claim], lease_seconds: float) -> dict[Claim, bool]:
    """Prolong the leases; returns, for each claim still held, whether its run is asked to pause or to end."""
    if not claims:
        return {}
    has_request = or_(Run.cancel_requested, Run.pause_requested).label("has_request")
    held = session.execute(_locked(select(Run.id, Run.claim_number, has_request), claims)).all()
    renewal = update(Run).where(Run.id.in_([row.id for row in held]))
    session.execute(
        renewal.values(lease_expires_at=database_now() + lease_seconds, lease_seconds=lease_seconds),
        execution_options={"synchronize_session": False},
    )
    return {Claim(row.id, row.claim_number): bool(row.has_request) for row in held}


def fence(session: Session, held: Claim) -> Run:
    """The claim's run, locked for this transaction.

    Raises:
        StaleClaim: The claim no longer holds; nothing may be written in its name.
    """
    run = session.scalar(_locked(select(Run), [held]))
    if run is None:
        raise StaleClaim(f"run {held.run_id}, claim {held.claim_number}")
    return run


def fence_all(session: Session, claims: Collection[Claim]) -> dict[Claim, Run]:
    """The runs of those claims that still hold, locked for this transaction."""
    return {Claim(run.id, run.claim_number): run for run in session.scalars(_locked(select(Run), claims))}


def release(session: Session, held: Claim) -> None:
    """Let go of a run, unharmed: a worker's clean stop counts nothing."""
    lifecycle.release(session, fence(session, held))


def report_crash(session: Session, held: Claim) -> None:
    """The worker's child died over this run."""
    lifecycle.record_worker_loss(session, fence(session, held))


def _locked(query: Query, claims: Collection[Claim]) -> Query:
    """Of a query over runs: those whose claims hold.

    They are locked in the order of their ids, by everyone: of two who want the same runs, one waits for the other, and
    never both (on Postgres, where each row has its lock).
    """
    held = tuple_(Run.id, Run.claim_number).in_([(each.run_id, each.claim_number) for each in claims])
    return query.where(held, Run.status == RunStatus.RUNNING).order_by(Run.id).with_for_update()
