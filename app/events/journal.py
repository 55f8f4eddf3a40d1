"""Writing events: in the transaction of what they tell, with ids that grow in commit order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.database import before_commit, utc_now
from app.tables import Event, EventCounter, EventType, Run

MAX_BLOCK_EVENTS = 500  # of a row: a page reads no more than two blocks that it shows only a part of

_PENDING = "events"


def record(session: Session, run: Run, kind: EventType, **data: Any) -> None:
    """Note something about a run. It is written at the end of the writing session, after everything else."""
    record_for(session, kind, run_id=run.id, sweep_id=run.sweep_id, data=data)


def record_for(session: Session, kind: EventType, *, run_id: str, sweep_id: str | None, data: dict[str, Any]) -> None:
    """The same, for those who have no `Run` at hand."""
    columns = {"num_events": 1, "first_epoch": None, "last_epoch": None}
    _note(session, kind, run_id=run_id, sweep_id=sweep_id, data=data, **columns)


def record_metrics(session: Session, run: Run, epochs: Sequence[int]) -> None:
    """Note that the run was evaluated at these epochs, whose rows are in `metrics`: an event each, in rows of many.

    Args:
        session: A writing session; it writes the rows of `metrics` too.
        run: Whose they are.
        epochs: All that are new, ascending.
    """
    for start in range(0, len(epochs), MAX_BLOCK_EVENTS):
        block = epochs[start : start + MAX_BLOCK_EVENTS]
        columns = {"num_events": len(block), "first_epoch": block[0], "last_epoch": block[-1]}
        _note(session, EventType.METRIC, run_id=run.id, sweep_id=run.sweep_id, data={}, **columns)


def take_turn(session: Session) -> None:
    """Wait until every other transaction that writes events has ended, and keep them waiting until this one has.

    Everybody takes this lock after those on runs, so that on Postgres no two wait for each other.
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
    # Rows of equal columns are one statement; without `render_nulls`, a row's columns are those that are not null.
    session.execute(insert(Event), events, execution_options={"render_nulls": True})
