"""Writing events: in the transaction of what they tell, with ids that grow in commit order."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from app.database import before_commit, utc_now
from app.tables import Event, EventCounter, EventType, Run

_PENDING = "events"


def record(session: Session, run: Run, kind: EventType, **data: Any) -> None:
    """Note something about a run. It is written at the end of the writing session, after everything else."""
    record_for(session, kind, run_id=run.id, sweep_id=run.sweep_id, data=data)


def record_for(session: Session, kind: EventType, *, run_id: str, sweep_id: str | None, data: dict[str, Any]) -> None:
    """The same, for those who have no `Run` at hand."""
    if _PENDING not in session.info:
        session.info[_PENDING] = []
        before_commit(session, _write)
    event = {"run_id": run_id, "sweep_id": sweep_id, "type": kind, "data": data, "created_at": utc_now()}
    session.info[_PENDING].append(event)


def take_turn(session: Session) -> None:
    """Wait until every other transaction that writes events has ended, and keep them waiting until this one has.

    Everybody takes this lock after those on runs, so that on Postgres no two wait for each other.
    """
    session.flush()
    session.execute(select(EventCounter.id).with_for_update())


def _write(session: Session) -> None:
    events = session.info.pop(_PENDING)
    session.flush()  # the rows of runs are locked before the counter is
    counting = update(EventCounter).values(last_event_id=EventCounter.last_event_id + len(events))
    last_id = session.scalars(counting.returning(EventCounter.last_event_id)).one()
    first_id = last_id - len(events) + 1
    session.execute(insert(Event), [{"id": first_id + place, **event} for place, event in enumerate(events)])
