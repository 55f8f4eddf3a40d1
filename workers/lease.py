"""The worker's hold on what it trains: heartbeats and lease renewals, by the parent process alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy.exc import DBAPIError

from app.database import Database
from app.runs import queue
from app.runs.queue import Claim, StaleClaim
from app.settings import Settings
from app.workers import repository as registry

logger = logging.getLogger(__name__)


class Lease:
    """Keeps a worker alive in the database, and its claims with it."""

    def __init__(self, database: Database, settings: Settings, worker: str) -> None:
        self._database = database
        self._settings = settings
        self._worker = worker
        self._last_beat = -float("inf")

    def beat_if_due(
        self, claims: Collection[Claim], *, device: str | None, provenance: dict[str, Any] | None
    ) -> set[Claim]:
        """Every half second: say that the worker is alive and renew its claims.

        Returns:
            The claims whose runs are to be ended: somebody wants them cancelled, or they are no longer this worker's.
        """
        now = time.monotonic()
        if now - self._last_beat < self._settings.heartbeat_seconds:
            return set()
        self._last_beat = now
        try:
            with self._database.writing() as session:
                registry.beat(session, self._worker, device=device, provenance=provenance)
                held = queue.renew(session, list(claims), self._settings.lease_seconds)
        except DBAPIError as error:
            logger.error("No heartbeat: the database does not answer (%s)", error.orig)
            return set()
        return {claim for claim in claims if held.get(claim, True)}

    def report_crash(self, claims: Collection[Claim]) -> None:
        """Give claims back whose trainer child died over them."""
        with self._database.writing() as session:
            for claim in claims:
                try:
                    queue.report_crash(session, claim)
                except StaleClaim:
                    logger.warning("Run %s had been ended or taken over already", claim.run_id)
