"""Writes events in the transaction of the change that they report, with ids that grow in commit order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.database import before_commit, utc_now
from app.tables import Event, EventCounter, EventType, Run

MAX_BLOCK_EVENTS = 500  # per row; a page cuts two blocks at most, its first and its last

_PENDING = "events"


def record(session: Session, run: Run, kind: EventType, **data: Any) -> None:
    """Record an event of a run. It is written at the end of the writing session, after everything else."""
    record_for(session, kind, run_id=run.id, sweep_id=run.sweep_id, data=data)


def record_of_sweep(session: Session, kind: EventType, sweep_id: str, **data: Any) -> None:
    """Record an event of a sweep itself, which has no run."""
    record_for(session, kind, run_id=None, sweep_id=sweep_id, data=data)


def record_for(
    session: Session, kind: EventType, *, run_id: str | None, sweep_id: str | None, data: dict[str, Any]
) -> None:
    """Record an event like `record`, for callers without a `Run`."""
    columns = {"num_events": 1, "first_epoch": None, "last_epoch": None}
    _note(session, kind, run_id=run_id, sweep_id=sweep_id, data=data, **columns)


def record_metrics(session: Session, run: Run, epochs: Sequence[int]) -> None:
    """Record that the run was evaluated at these epochs: one event per epoch, many events per row.

    The data of these events are the epochs' rows in `metrics`.

    Args:
        session: Writing session, which writes the rows of `metrics` too.
        run: The run that was evaluated.
        epochs: All new epochs, ascending.
    """
    for start in range(0, len(epochs), MAX_BLOCK_EVENTS):
        block = epochs[start : start + MAX_BLOCK_EVENTS]
        columns = {"num_events": len(block), "first_epoch": block[0], "last_epoch": block[-1]}
        _note(session, EventType.METRIC, run_id=run.id, sweep_id=run.sweep_id, data={}, **columns)


def take_turn(session: Session) -> None:
    """Lock the event counter: wait for other transactions that write events, and let later ones wait for this one.

    Every transaction takes this lock after its locks on runs, so that no two deadlock on Postgres.
    """
    session.flush()
    session.execute(select(EventCounter.id).with_for_update())


def _note(session: Session, kind: EventType, **columns: Any) -> None:
    if _PENDING not in session.info:
        session.info[_PENDING] = []
        before_commit(session, _write)
    session.info[_PENDING].append({"type": kind, "created_at": utc_now(), **columns})


def _write(session: Session) -> None:
    events = session.info.pop(_PENDING)
    session.flush()  # the rows of runs are locked before the counter is
    num_ids = sum(event["num_events"] for event in events)
    counting = update(EventCounter).values(last_event_id=EventCounter.last_event_id + num_ids)
    last_id = session.scalars(counting.returning(EventCounter.last_event_id)).one() - num_ids
    for event in events:
        last_id += event["num_events"]
        event["id"] = last_id
    # By the connection: the session's own bulk insert takes twice as long. All rows have the same columns.
    session.connection().execute(insert(Event), events)
