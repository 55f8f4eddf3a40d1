"""The run queue: claim, renew, fence, release, by the database's clock. A run's states are in `lifecycle`.

Every function runs in the caller's transaction, which is a writing one except for `has_work`. A claim's number is its
fencing token: it only grows, every write of a worker checks it, and a worker whose run another worker has claimed can
write nothing more (M. Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from sqlalchemy import Select, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from app.database import database_now, utc_now
from app.events import journal
from app.queue import lifecycle
from app.queue.lease_watch import LeaseWatch
from app.run_config import RunConfig
from app.run_costs import max_stack_size, num_fitting, shared_bytes, stack_bytes
from app.tables import EventType, Run, RunStatus, new_id

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])

SMALLER_STACKS = 4  # number of stacks into which a stack is divided after its worker was lost
MAX_STACKS = 8  # of a claim
MAX_RUNS_SIDE_BY_SIDE = 256  # of a claim of several stacks


@dataclass(frozen=True)
class Claim:
    """A worker's right to train a run and to write its results."""

    run_id: str
    claim_number: int


@dataclass(frozen=True)
class SideBySide:
    """What a trainer can train in launches that several stacks share."""

    devices: tuple[str, ...]  # values of `device` whose runs it trains so
    max_runs: int  # that the device computes at once, whatever their shape
    max_bytes: int  # of the device's memory


class StaleClaim(Exception):
    """The claim no longer holds: the run was claimed again, or it is no longer running (ended, paused or queued)."""


def has_work(session: Session, devices: Collection[str], watch: LeaseWatch) -> bool:
    """Whether there is a run to claim. An idle worker asks this first, and so does not take the write lock."""
    expired = watch.find_expired(session)  # in any case: the watch has to be called often
    is_queued = select(Run.id).where(Run.status == RunStatus.QUEUED, Run.device.in_(devices)).limit(1)
    return bool(expired) or session.scalar(is_queued) is not None


def claim_stacks(
    session: Session,
    *,
    worker: str,
    devices: Collection[str],
    lease_seconds: float,
    max_stack_bytes: int,
    watch: LeaseWatch | None = None,
    side_by_side: SideBySide | None = None,
) -> list[list[Claim]]:
    """Claim the first run, by priority, then by age, and others that can be trained with it, as one stack.

    Where launches can be shared, the next run in the queue begins another stack, and so on, as long as there is room.
    The claim ends at the first run that cannot be trained side by side with the others, so that it is the first of the
    next claim: it waits for no stack that begins behind it.

    Args:
        session: A writing session.
        worker: The name of the worker that claims.
        devices: Values of `device` whose runs this worker trains, `auto` included.
        lease_seconds: How long the claims hold without a renewal.
        max_stack_bytes: Memory that the runs may take together; the first is claimed in any case.
        watch: This process's observations of leases; None: no observations yet.
        side_by_side: What the worker's trainer can train in shared launches; None: one stack a claim.

    Returns:
        The stacks, a claim for each run; empty if there is nothing to do.
    """
    _end_expired_leases(session, watch or LeaseWatch(lease_seconds))
    lease = _Lease(worker, lease_seconds)
    claimable = select(Run).where(Run.status == RunStatus.QUEUED, Run.device.in_(devices))
    claimable = claimable.order_by(Run.priority.desc(), Run.id).with_for_update(skip_locked=True)
    stacks: list[list[Claim]] = []
    room = _Room(max_stack_bytes, side_by_side)
    # A claimed run is no longer queued: each turn finds the next one.
    while len(stacks) < MAX_STACKS and (first := session.scalar(claimable.limit(1))) is not None:
        limit = room.limit_for(first)
        if limit < 1:
            break
        run_ids = [first.id]
        if limit > 1:
            others = claimable.with_only_columns(Run.id).where(
                Run.stack_key == first.stack_key,
                Run.epoch == first.epoch,
                Run.crashes_without_progress == first.crashes_without_progress,
                Run.id != first.id,
            )
            run_ids += session.scalars(others.limit(limit - 1))
        stacks.append(_claim_stack(session, run_ids, lease))
        if not room.take(first, len(run_ids)):
            break
    return stacks


class _Lease(NamedTuple):
    worker: str
    seconds: float


class _Room:
    """The limits of a claim, and what its stacks have taken of them.

    Args:
        max_stack_bytes: See `claim_stacks`.
        side_by_side: See `claim_stacks`.
    """

    def __init__(self, max_stack_bytes: int, side_by_side: SideBySide | None) -> None:
        self._max_stack_bytes = max_stack_bytes
        self._side_by_side = side_by_side
        self._num_runs = self._num_bytes = 0

    def limit_for(self, first: Run) -> int:
        """The number of runs that may train in one stack with `first`, itself included; 0: no further stack."""
        config = self._shared_config(first)
        if config is None or self._side_by_side is None:
            return 0 if self._num_runs else _stack_limit(first, self._max_stack_bytes)
        room = min(self._max_stack_bytes, self._side_by_side.max_bytes) - self._num_bytes
        if self._num_runs == 0:
            return _stack_limit(first, room)
        max_runs = min(self._side_by_side.max_runs, MAX_RUNS_SIDE_BY_SIDE)
        return min(max_runs - self._num_runs, num_fitting(config, room))

    def take(self, first: Run, size: int) -> bool:
        """Take the room of a stack; returns whether others may share its launches."""
        config = self._shared_config(first)
        self._num_runs += size
        if config is not None:
            self._num_bytes += shared_bytes(config) + size * stack_bytes(config)
        return config is not None

    def _shared_config(self, run: Run) -> RunConfig | None:
        """The configuration of a run whose stack may share its launches; None: it may not.

        A run whose worker was just lost is tried in a stack of its own: it may be the cause.
        """
        is_network = run.stack_key is not None
        if self._side_by_side is None or not is_network or run.device not in self._side_by_side.devices:
            return None
        return None if run.crashes_without_progress else _read_config(run)


def _claim_stack(session: Session, run_ids: Sequence[str], lease: _Lease) -> list[Claim]:
    """Claim these queued runs, whose rows are locked, as one stack."""
    claiming = (
        update(Run)
        .where(Run.id.in_(run_ids))
        .values(
            status=RunStatus.RUNNING,
            claim_number=Run.claim_number + 1,
            worker=lease.worker,
            lease_expires_at=database_now() + lease.seconds,
            lease_seconds=lease.seconds,
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
        data = {"status": RunStatus.RUNNING, "epoch": row.epoch, "worker": lease.worker}
        data |= {"claim_number": row.claim_number, "stack_id": row.stack_id, "stack_size": len(claimed)}
        journal.record_for(session, EventType.STARTED, run_id=row.id, sweep_id=row.sweep_id, data=data)
    return [Claim(row.id, row.claim_number) for row in claimed]


def _stack_limit(first: Run, max_stack_bytes: int) -> int:
    """Return the number of runs that may train in one stack with `first`, itself included.

    Runs whose worker was just lost are tried in smaller stacks, and then alone: one of them may be the cause.
    """
    if first.stack_key is None or first.crashes_without_progress > 1:
        return 1
    config = _read_config(first)
    if config is None:
        return 1
    limit = max_stack_size(config, max_stack_bytes)
    if first.crashes_without_progress == 1:
        limit = min(limit, math.ceil((first.stack_size or 1) / SMALLER_STACKS))
    return limit


def _read_config(run: Run) -> RunConfig | None:
    """A run's configuration; None if it is not valid: the trainer will report what is wrong with it."""
    try:
        return RunConfig.model_validate(run.config)
    except ValidationError:
        return None


def _end_expired_leases(session: Session, watch: LeaseWatch) -> None:
    """Take runs away from workers that have not renewed their leases in time."""
    expired = watch.find_expired(session)
    if not expired:
        return
    # A worker may have renewed its lease since (on Postgres): the lease then differs, and the run is not found.
    lease = tuple_(Run.id, Run.claim_number, Run.lease_expires_at)
    still_so = select(Run).where(Run.status == RunStatus.RUNNING, lease.in_(expired)).order_by(Run.id)
    for run in session.scalars(still_so.with_for_update(skip_locked=True)):
        lifecycle.record_worker_loss(session, run)
    session.flush()


def renew(session: Session, claims: Sequence[Claim], lease_seconds: float) -> dict[Claim, bool]:
    """Renew the leases. Return, for each claim still held, whether a pause or cancellation of its run is requested."""
    if not claims:
        return {}
    has_request = or_(Run.cancel_requested, Run.pause_requested).label("has_request")
    running = {
        Claim(run_id, number): bool(is_requested)
        for run_id, number, is_requested in session.execute(
            _running(select(Run.id, Run.claim_number, has_request), claims)
        )
    }
    held = {claim: running[claim] for claim in claims if claim in running}
    renewal = update(Run).where(Run.id.in_([claim.run_id for claim in held]))
    session.execute(
        renewal.values(lease_expires_at=database_now() + lease_seconds, lease_seconds=lease_seconds),
        execution_options={"synchronize_session": False},
    )
    return held


def fence(session: Session, held: Claim) -> Run:
    """Return the claim's run, locked for this transaction.

    Raises:
        StaleClaim: The claim no longer holds, so nothing may be written under it.
    """
    run = session.scalar(_running(select(Run), [held]))
    if run is None or run.claim_number != held.claim_number:
        raise StaleClaim(f"run {held.run_id}, claim {held.claim_number}")
    return run


def fence_all(session: Session, claims: Collection[Claim]) -> dict[Claim, Run]:
    """Return the runs of those claims that still hold, locked for this transaction."""
    running = {Claim(run.id, run.claim_number): run for run in session.scalars(_running(select(Run), claims))}
    return {claim: running[claim] for claim in claims if claim in running}


def release(session: Session, held: Claim) -> None:
    """Release a run. A worker's clean stop does not count as a crash."""
    lifecycle.release(session, fence(session, held))


def report_crash(session: Session, held: Claim) -> None:
    """Record that the worker's trainer process died while it trained this run."""
    lifecycle.record_worker_loss(session, fence(session, held))


def _running(query: Query, claims: Collection[Claim]) -> Query:
    """Restrict a query over runs to the running ones that these claims name, whatever their numbers, and lock them.

    Callers compare the numbers: a condition on pairs takes half as long again, and SQLite finds pairs by no index.

    All processes lock runs in the order of their ids: of two that want the same runs, one waits for the other, and
    they never deadlock (on Postgres, where each row has its lock).
    """
    of_claims = Run.id.in_([each.run_id for each in claims])
    return query.where(of_claims, Run.status == RunStatus.RUNNING).order_by(Run.id).with_for_update()
