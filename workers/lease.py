"""The worker's hold on what it trains: claims, heartbeats and renewals, by the parent process alone."""

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
from app.queue.claiming import Claim, StaleClaim
from app.queue.lease_watch import LeaseWatch
from app.settings import Settings
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo
from workers.shared_clocks import Pulse
from workers.watchdog import margin

logger = logging.getLogger(__name__)


class Lease:
    """Keeps a worker alive in the database, and its claims with it. A database that fails is waited for."""

    def __init__(self, database: Database, settings: Settings, worker: str, pulse: Pulse) -> None:
        self._database = database
        self._settings = settings
        self._worker = worker
        self._pulse = pulse
        self._watch = LeaseWatch(settings.lease_seconds)
        self._last_beat = -math.inf
        self._has_failed = False
        self.claims: set[Claim] = set()  # of the stack in training, as far as it is not done

    def claim_stack(self, devices: Collection[str]) -> list[Claim]:
        """Claim runs to train, if there are any."""
        with self._trying():
            with self._database.reading() as session:
                if not claiming.has_work(session, devices, self._watch):
                    return []
            with self._database.writing() as session:
                started = _wait_for_write_lock(session)
                claims = claiming.claim_stack(
                    session,
                    worker=self._worker,
                    devices=devices,
                    lease_seconds=self._settings.lease_seconds,
                    max_stack_bytes=self._settings.max_stack_bytes,
                    watch=self._watch,
                )
            if claims:  # and they are committed
                self.claims = set(claims)
                self._hold_from(started)
            return claims
        return []

    def beat_if_due(self, info: WorkerInfo) -> set[Claim]:
        """Every half second: say that the worker is alive and renew its claims.

        Returns:
            The claims whose runs are to be let go: somebody wants it so, or they are no longer this worker's.
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
        """The child has nothing more to do with a run."""
        self.claims.discard(claim)
        if not self.claims:
            self.clear()

    def clear(self) -> None:
        """There is nothing left to hold."""
        self.claims = set()
        self._pulse.lease_until = math.inf

    def report_crash(self) -> None:
        """Give the claims back over which the trainer child died."""
        self._release_claims(claiming.report_crash)

    def release_all(self) -> None:
        """Give the claims back that the child has not let go of by itself; nothing is counted."""
        self._release_claims(claiming.release)

    def _release_claims(self, how: Callable[[Session, Claim], None]) -> None:
        """All that can be; what cannot be given back is lost when the lease runs out."""
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
        """The database counts from a little later, when it has come to the statement: this side is on the safe one."""
        seconds = self._settings.lease_seconds
        self._pulse.lease_until = moment + seconds - margin(seconds)

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Say once that the database fails, and once that it is there again."""
        try:
            yield
        except SQLAlchemyError as error:
            if not self._has_failed:
                logger.error("Trying again: %s", describe_failure(error))
            self._has_failed = True
        else:
            if self._has_failed:
                logger.info("The database answers again")
            self._has_failed = False


def _wait_for_write_lock(session: Session) -> float:
    """On SQLite, this is where a transaction waits for others; returns when it goes on (`time.monotonic()`)."""
    session.connection()
    return time.monotonic()
