"""Queries over events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import QueryableAttribute, Session

from app.tables import Event, EventCounter, EventType, Run, Sweep


@dataclass(frozen=True)
class EventFilter:
    """Which events: those of any of these runs, and of this sweep; all, where nothing is named."""

    run_ids: tuple[str, ...] = ()
    sweep_id: str | None = None

    def accepts(self, run_id: str, sweep_id: str | None) -> bool:
        is_of_run = not self.run_ids or run_id in self.run_ids
        return is_of_run and (self.sweep_id is None or sweep_id == self.sweep_id)


def list_events(
    session: Session, wanted: EventFilter, *, after: int, limit: int, up_to: int | None = None
) -> Sequence[Event]:
    """The events that follow an id, oldest first."""
    runs = Run.__table__.c  # the table itself: of the class, the ORM does not show what is marked
    marked = select(runs.id).where(runs.deleted_at.is_not(None))
    query = select(Event).where(Event.id > after).order_by(Event.id).limit(limit)
    query = query.where(or_(Event.type == EventType.DELETED, Event.run_id.not_in(marked)))
    if up_to is not None:
        query = query.where(Event.id <= up_to)
    if wanted.run_ids:
        query = query.where(Event.run_id.in_(wanted.run_ids))
    if wanted.sweep_id is not None:
        query = query.where(Event.sweep_id == wanted.sweep_id)
    return session.scalars(query).all()


def find_unknown_runs(session: Session, run_ids: Iterable[str]) -> set[str]:
    """Those of these ids that no run has, nor an event of one that was deleted."""
    return _without(session, _without(session, set(run_ids), Run.id), Event.run_id)


def find_unknown_sweeps(session: Session, sweep_ids: Iterable[str]) -> set[str]:
    """The same for sweeps."""
    return _without(session, _without(session, set(sweep_ids), Sweep.id), Event.sweep_id)


def _without(
    session: Session, ids: set[str], column: QueryableAttribute[str] | QueryableAttribute[str | None]
) -> set[str]:
    if not ids:
        return ids
    return ids - set(session.scalars(select(column).where(column.in_(ids)).distinct()))


def last_event_id(session: Session) -> int:
    """The id of the newest event; 0 when nothing has ever happened."""
    return session.scalars(select(EventCounter.last_event_id)).one()


def delete_of_run(session: Session, run_id: str, limit: int) -> int:
    """Delete at most `limit` events of a deleted run, but for `deleted` itself; returns how many there were."""
    of_run = (Event.run_id == run_id, Event.type != EventType.DELETED)
    ids = session.scalars(select(Event.id).where(*of_run).order_by(Event.id).limit(limit)).all()
    if ids:
        session.execute(delete(Event).where(*of_run, Event.id <= ids[-1]))
    return len(ids)


def delete_older(session: Session, moment: datetime, limit: int) -> int:
    """Delete at most `limit` events from before a moment, oldest first; returns how many there were."""
    oldest = session.execute(select(Event.id, Event.created_at).order_by(Event.id).limit(limit)).all()
    old = [event.id for event in oldest if event.created_at < moment]
    if old:
        session.execute(delete(Event).where(Event.id.in_(old)))
    return len(old)
