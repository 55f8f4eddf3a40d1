"""Deletes rows past their retention: `last` checkpoints of finished runs, events, workers that are gone.

It also deletes the rows of runs and sweeps that clients have deleted (such rows are marked, and no query returns them),
and gives the free pages of SQLite's file back to the file system.
"""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.clocks import Monotonic, SteadyClock
from app.database import Database, database_now, describe_failure, give_back_free_pages, utc_now
from app.events import repository as events
from app.runs import repository as runs
from app.settings import Settings
from app.wording import count
from app.worker_registry import repository as registry

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 60.0
ROWS_PER_TRANSACTION = 500  # so that no other process waits long for the write lock
BLOBS_PER_TRANSACTION = 20
LONG_SECONDS = 0.1  # after a transaction that took longer, the next one is smaller
DUE_TWICE_SECONDS = 3600.0
DEAD_WORKERS_KEPT_SECONDS = 3600.0


class Housekeeping:
    """Deletes a little at a time, between a worker's heartbeats. Any number of workers may do it at once.

    A clock may jump, so a row is deleted after it has been due for a whole hour of this worker's monotonic clock; a
    retention of 0 deletes at once.
    """

    def __init__(self, database: Database, settings: Settings, monotonic: Monotonic = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._monotonic = monotonic
        self._clock = SteadyClock(DUE_TWICE_SECONDS, trusts_first=False, monotonic=monotonic)
        self._database_clock = SteadyClock(DUE_TWICE_SECONDS, trusts_first=False, monotonic=monotonic)
        self._next_turn = -math.inf
        self._num_rows = ROWS_PER_TRANSACTION  # for rows that clients have deleted; fewer where the disk is slow

    def clean_if_due(self) -> None:
        """Run a few short transactions, once a minute; as long as rows are left to delete, at every call."""
        if self._monotonic() < self._next_turn:
            return
        self._next_turn = self._monotonic() + PAUSE_SECONDS
        try:
            if self._clean():
                self._next_turn = -math.inf
        except SQLAlchemyError as error:
            logger.error("No housekeeping: %s", describe_failure(error))

    def _clean(self) -> int:
        """Delete some rows; returns how many. Each kind has its own transaction, so that none waits for another's."""
        settings, now = self._settings, self._clock.now(time.time())
        finished_before = _threshold(now, settings.last_checkpoint_retention_seconds)
        events_before = _threshold(now, settings.event_retention_seconds)
        with self._database.writing() as session:
            heard = self._database_clock.now(session.scalars(select(database_now())).one())
            registry.delete_dead(session, heard - DEAD_WORKERS_KEPT_SECONDS)
        with self._database.writing() as session:
            num_checkpoints = runs.delete_last_checkpoints(session, finished_before, BLOBS_PER_TRANSACTION)
        with self._database.writing() as session:
            num_events = events.delete_older(session, events_before, ROWS_PER_TRANSACTION)
        if num_checkpoints or num_events:
            logger.info("Deleted %s and %s", count(num_checkpoints, "old checkpoint"), count(num_events, "old event"))
        return num_checkpoints + num_events + self._purge_deleted() + self._give_back()

    def _purge_deleted(self) -> int:
        """Delete some rows of the runs and sweeps that are marked as deleted; returns how many."""
        since = time.monotonic()
        with self._database.writing() as session:
            number = runs.purge_deleted(session, self._num_rows)
        is_slow = time.monotonic() - since > LONG_SECONDS
        self._num_rows = max(10, self._num_rows // 2) if is_slow else ROWS_PER_TRANSACTION
        return number

    def _give_back(self) -> int:
        with self._database.writing() as session:
            return give_back_free_pages(session, ROWS_PER_TRANSACTION)


def _threshold(now: float, retention_seconds: float) -> datetime:
    """The time before which rows are due. A retention of 0 makes every row due, whatever the steady clock says."""
    if not retention_seconds:
        return utc_now()
    return datetime.fromtimestamp(max(0.0, now - retention_seconds), UTC)
