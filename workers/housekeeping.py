"""Deletes what has been kept long enough: `last` checkpoints of finished runs, events, workers that are gone.

It also deletes the rows of runs and sweeps that clients have deleted (until then these are marked, and no query sees
them), and gives back the free pages of SQLite's file.
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
ROWS_PER_TRANSACTION = 500  # so that nobody waits long for the write lock
BLOBS_PER_TRANSACTION = 20
LONG_SECONDS = 0.1  # a transaction that took longer is followed by a smaller one
DUE_TWICE_SECONDS = 3600.0
DEAD_WORKERS_KEPT_SECONDS = 3600.0


class Housekeeping:
    """A little at a time, between a worker's heartbeats. Any number of workers may do it at once.

    Nothing is deleted because of one look at a clock that may have jumped: it has to have been due all through the last
    hour of this worker's monotonic clock.
    """

    def __init__(self, database: Database, settings: Settings, monotonic: Monotonic = time.monotonic) -> None:
        self._database = database
        self._settings = settings
        self._monotonic = monotonic
        self._clock = SteadyClock(DUE_TWICE_SECONDS, trusts_first=False, monotonic=monotonic)
        self._database_clock = SteadyClock(DUE_TWICE_SECONDS, trusts_first=False, monotonic=monotonic)
        self._next_turn = -math.inf
        self._num_rows = ROWS_PER_TRANSACTION  # of what was deleted by clients; fewer where the disk is slow

    def clean_if_due(self) -> None:
        """A few short transactions; when there is more to delete, the next one follows at the next call."""
        if self._monotonic() < self._next_turn:
            return
        self._next_turn = self._monotonic() + PAUSE_SECONDS
        try:
            if self._clean():
                self._next_turn = -math.inf
        except SQLAlchemyError as error:
            logger.error("No housekeeping: %s", describe_failure(error))

    def _clean(self) -> int:
        """Returns how many rows there were to delete. A transaction for each kind: none waits for another's."""
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
        """Some rows of the runs and sweeps that are marked as deleted."""
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
    """What is older is due. What is not to be kept at all is due whatever the time is."""
    if not retention_seconds:
        return utc_now()
    return datetime.fromtimestamp(max(0.0, now - retention_seconds), UTC)
