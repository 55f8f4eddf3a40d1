"""The worker's lease on the runs that it trains: claims, heartbeats and renewals, all by the parent process."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database, describe_failure
from app.queue import claiming
from app.queue.claiming import Claim, SideBySide, StaleClaim
from app.queue.lease_watch import LeaseWatch
from app.settings import Settings
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo
from workers.shared_clocks import Pulse
from workers.watchdog import margin

logger = logging.getLogger(__name__)


class Lease:
    """Registers a worker's heartbeats in the database and renews its claims.

    A database failure is logged once, and the next call tries again.
    """

    def __init__(self, database: Database, settings: Settings, worker: str, pulse: Pulse) -> None:
        self._database = database
        self._settings = settings
        self._worker = worker
        self._pulse = pulse
        self._watch = LeaseWatch(settings.lease_seconds)
        self._last_beat = -math.inf
        self._has_failed = False
        self.claims: set[Claim] = set()  # of the runs in training that are not done

    def claim_stacks(self, devices: Collection[str], side_by_side: SideBySide | None = None) -> list[list[Claim]]:
        """Claim the runs of one stack or, side by side, of several, if any are queued for these devices."""
        with self._trying():
            with self._database.reading() as session:
                if not claiming.has_work(session, devices, self._watch):
                    return []
            with self._database.writing() as session:
                started = _wait_for_write_lock(session)
                stacks = claiming.claim_stacks(
                    session,
                    worker=self._worker,
                    devices=devices,
                    lease_seconds=self._settings.lease_seconds,
                    max_stack_bytes=self._settings.max_stack_bytes,
                    watch=self._watch,
                    side_by_side=side_by_side,
                )
            if stacks:  # the transaction is committed
                self.claims = {claim for stack in stacks for claim in stack}
                self._hold_from(started)
            return stacks
        return []

    def beat_if_due(self, info: WorkerInfo) -> set[Claim]:
        """Every `heartbeat_seconds` (by default 0.5): record that the worker is alive, and renew its claims.

        Returns:
            The claims to release: a client has cancelled or paused the run, or the claim is no longer this worker's.
        """
        now = time.monotonic()
        if now - self._last_beat < self._settings.heartbeat_seconds:
            return set()
        self._last_beat = now
        with self._trying():
            with self._database.writing() as session:
                started = _wait_for_write_lock(session)
                registry.beat(session, info)
                held = claiming.renew(session, list(self.claims), self._settings.lease_seconds)
            if self.claims:
                self._hold_from(started)
            return {claim for claim in self.claims if held.get(claim, True)}
        return set()

    def remove(self, claim: Claim) -> None:
        """Stop renewing a claim: the child is done with its run."""
        self.claims.discard(claim)
        if not self.claims:
            self.clear()

    def clear(self) -> None:
        """Stop renewing all claims; the watchdogs have no lease to watch then."""
        self.claims = set()
        self._pulse.lease_until = math.inf

    def report_crash(self) -> None:
        """Release all claims after a death of the trainer, which counts as a crash of their runs."""
        self._release_claims(claiming.report_crash)

    def release_all(self) -> None:
        """Release the claims that the child has not released itself; no crash is counted."""
        self._release_claims(claiming.release)

    def _release_claims(self, how: Callable[[Session, Claim], None]) -> None:
        """Release as many claims as possible; the others are lost when the lease runs out."""
        if not self.claims:
            return
        with self._trying(), self._database.writing() as session:
            for claim in sorted(self.claims, key=lambda claim: claim.run_id):
                try:
                    how(session, claim)
                except StaleClaim:
                    logger.warning("Run %s had been ended or taken over already", claim.run_id)
        self.clear()

    def _hold_from(self, moment: float) -> None:
        """Set the watchdogs' deadline for a lease taken at `moment` (`time.monotonic()`).

        The database's lease starts slightly after `moment`, so this deadline is early, never late.
        """
        seconds = self._settings.lease_seconds
        self._pulse.lease_until = moment + seconds - margin(seconds)

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Log once when the database fails, and once when it responds again."""
        try:
            yield
        except SQLAlchemyError as error:
            if not self._has_failed:
                logger.error("Trying again: %s", describe_failure(error))
            self._has_failed = True
        else:
            if self._has_failed:
                logger.info("The database responds again")
            self._has_failed = False


def _wait_for_write_lock(session: Session) -> float:
    """Begin the transaction, which on SQLite waits for other writers; returns the time after that (monotonic)."""
    session.connection()
    return time.monotonic()
