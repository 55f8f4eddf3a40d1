"""The worker's hold on what it trains: heartbeats and lease renewals, by the parent process alone."""

from __future__ import annotations

import logging
import time
from enum import Enum, auto
from typing import Any

from sqlalchemy.exc import DBAPIError

from app.database import Database
from app.runs import queue
from app.runs.queue import Claim, StaleClaim
from app.settings import Settings
from app.workers import repository as registry

logger = logging.getLogger(__name__)


class Hold(Enum):
    """How a renewal went."""

    HELD = auto()
    CANCELLED = auto()  # held, but somebody wants the run to end
    LOST = auto()  # another worker has it, or it was ended


class Lease:
    """Keeps a worker alive in the database, and its claim with it."""

    def __init__(self, database: Database, settings: Settings, worker: str) -> None:
        self._database = database
        self._settings = settings
        self._worker = worker
        self._last_beat = -float("inf")

    def beat_if_due(self, claim: Claim | None, *, device: str | None, provenance: dict[str, Any] | None) -> Hold | None:
        """Every half second: say that the worker is alive and renew its claim; None when it was not due or failed."""
        now = time.monotonic()
        if now - self._last_beat < self._settings.heartbeat_seconds:
            return None
        self._last_beat = now
        try:
            with self._database.writing() as session:
                registry.beat(session, self._worker, device=device, provenance=provenance)
                held = queue.renew(session, [claim] if claim else [], self._settings.lease_seconds)
        except DBAPIError as error:
            logger.error("No heartbeat: the database does not answer (%s)", error.orig)
            return None
        if claim is None:
            return Hold.HELD
        if claim not in held:
            return Hold.LOST
        return Hold.CANCELLED if held[claim] else Hold.HELD

    def report_crash(self, claim: Claim) -> None:
        """Give a claim back whose trainer child died over it."""
        try:
            with self._database.writing() as session:
                queue.report_crash(session, claim)
        except StaleClaim:
            logger.warning("Run %s had been ended or taken over already", claim.run_id)
