"""`events`: what has happened, in commit order. `event_counter`: the last event id that was assigned.

A row is one event, or a block of events: a run's metrics of one commit, each with its own id.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table, by_value

EventId = BigInteger().with_variant(Integer, "sqlite")  # SQLite's row id needs the type name INTEGER


class EventType(StrEnum):
    """What can happen to a run, and to a sweep."""

    QUEUED = "queued"
    STARTED = "started"
    METRIC = "metric"
    CHECKPOINT = "checkpoint"
    PAUSED = "paused"
    RESUMED = "resumed"
    PROMOTED = "promoted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WORKER_LOST = "worker_lost"
    DELETED = "deleted"
    SWEEP_CREATED = "sweep_created"
    SWEEP_SUCCEEDED = "sweep_succeeded"
    SWEEP_FAILED = "sweep_failed"
    SWEEP_CANCELLED = "sweep_cancelled"
    SWEEP_DELETED = "sweep_deleted"

    def is_last(self) -> bool:
        """Whether only `promoted` and `deleted` can follow this event of a run."""
        return self in LAST_OF_A_RUN


LAST_OF_A_RUN = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED, EventType.DELETED)


class Event(Table):
    __tablename__ = "events"
    __table_args__ = (Index("ix_events_run", "run_id", "id"), Index("ix_events_sweep", "sweep_id", "id"))

    id: Mapped[int] = mapped_column(EventId, primary_key=True, autoincrement=False)
    # No foreign keys: a `deleted` event outlives its run. An event of a sweep has no run.
    run_id: Mapped[str | None] = mapped_column(String(36))
    sweep_id: Mapped[str | None] = mapped_column(String(36))
    type: Mapped[EventType] = mapped_column(by_value(EventType))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    # A block of `metric` events stores no data: `metrics` holds it. The block's ids are `id` and those before it:
    # one for each evaluated epoch from `first_epoch` to `last_epoch`. Both columns are null in a row that is one event.
    num_events: Mapped[int] = mapped_column(default=1, server_default="1")
    first_epoch: Mapped[int | None]
    last_epoch: Mapped[int | None]


class EventCounter(Table):
    """One row. A transaction that writes events locks it last, until its commit, so ids grow in commit order."""

    __tablename__ = "event_counter"

    id: Mapped[int] = mapped_column(primary_key=True)  # always 1
    last_event_id: Mapped[int] = mapped_column(BigInteger)
