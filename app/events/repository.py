"""Queries over events."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, inspect, or_, select, true
from sqlalchemy.orm import QueryableAttribute, Session

from app.events.past_event import PastEvent
from app.tables import Event, EventCounter, EventType, Metric, Run, Sweep

EVENT_COLUMNS = tuple(inspect(Event).columns)
METRIC_COLUMNS = tuple(column for column in inspect(Metric).columns if column.name != "run_id")


IN_TRAINING = (EventType.METRIC, EventType.CHECKPOINT)  # many for each run
DELETIONS = (EventType.DELETED, EventType.SWEEP_DELETED)


@dataclass(frozen=True)
class EventFilter:
    """Selects events; each field narrows the selection, and an empty filter selects all events.

    `accepts` and `condition` decide alike: one for events in memory, the other in the database.
    """

    run_ids: tuple[str, ...] = ()  # of any of these runs
    sweep_id: str | None = None  # of this sweep and of its trials
    types: tuple[EventType, ...] = ()  # of any of these types, or …
    metrics_of: tuple[str, ...] = ()  # … a metric or checkpoint of any of these runs

    @cached_property
    def _types(self) -> tuple[EventType, ...]:
        """The types of which all events are selected: those asked for, or else all that `metrics_of` leaves."""
        is_narrow = self.types or not self.metrics_of
        return self.types if is_narrow else tuple(kind for kind in EventType if kind not in IN_TRAINING)

    def accepts(self, run_id: str | None, sweep_id: str | None, kind: EventType) -> bool:
        if self.run_ids and run_id not in self.run_ids:
            return False
        if self.sweep_id is not None and sweep_id != self.sweep_id:
            return False
        types = self._types
        return not types or kind in types or (kind in IN_TRAINING and run_id in self.metrics_of)

    def condition(self) -> ColumnElement[bool]:
        conditions: list[ColumnElement[bool]] = [true()]
        if self.run_ids:
            conditions.append(Event.run_id.in_(self.run_ids))
        if self.sweep_id is not None:
            conditions.append(Event.sweep_id == self.sweep_id)
        if self._types:
            is_followed = and_(Event.type.in_(IN_TRAINING), Event.run_id.in_(self.metrics_of))
            conditions.append(or_(Event.type.in_(self._types), is_followed))
        return and_(*conditions)


def list_events(
    session: Session, wanted: EventFilter, *, after: int, limit: int, up_to: int | None = None
) -> list[PastEvent]:
    """Return the events after an id, oldest first; blocks are split into events and cut at both ends of the page."""
    query = select(*EVENT_COLUMNS).order_by(Event.id).limit(limit).where(wanted.condition(), _is_visible())
    if up_to is not None:
        query = query.where(Event.id - Event.num_events < up_to)  # a block ends at `id` and may begin before `up_to`
    events: list[PastEvent] = []
    position, is_exhausted = after, False
    while len(events) < limit and not is_exhausted:  # this repeats only if metrics of a block are missing
        found = session.execute(query.where(Event.id > position)).all()
        rows = _first_rows(found, position, limit - len(events))
        metrics = _read_metrics(session, rows)
        events += (event for row in rows for event in _take_apart(row, metrics) if event.id > after)
        is_exhausted = len(rows) == len(found) < limit
        position = rows[-1].id if rows else position
    return [event for event in events[:limit] if up_to is None or event.id <= up_to]


def _is_visible() -> ColumnElement[bool]:
    """Hide events of runs and sweeps that are marked as deleted, except the events that tell of it."""
    runs, sweeps = Run.__table__.c, Sweep.__table__.c  # the tables themselves: queries of the classes hide marked rows
    marked_runs = select(runs.id).where(runs.deleted_at.is_not(None))
    marked_sweeps = select(sweeps.id).where(sweeps.deleted_at.is_not(None))
    # Without `is_not(None)`: NULL NOT IN () is true, and a database may hold no marked run.
    is_of_run = and_(Event.run_id.is_not(None), Event.run_id.not_in(marked_runs))
    is_of_sweep = and_(Event.run_id.is_(None), Event.sweep_id.not_in(marked_sweeps))
    return or_(Event.type.in_(DELETIONS), is_of_run, is_of_sweep)


def _first_rows(rows: Iterable[Row[Any]], after: int, limit: int) -> list[Row[Any]]:
    """Return the first of these rows, as many as hold the first `limit` events after an id."""
    taken: list[Row[Any]] = []
    num_events = 0
    for row in rows:
        if num_events >= limit:
            break
        taken.append(row)
        num_events += min(row.num_events, row.id - after)
    return taken


def _read_metrics(session: Session, rows: Iterable[Row[Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the metrics of these rows' blocks by run id, in order of epochs.

    The blocks of a run are consecutive, so one query per run reads them all.
    """
    blocks: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        if row.first_epoch is not None:
            blocks[row.run_id].append(row)
    query = select(*METRIC_COLUMNS).order_by(Metric.epoch)
    found = {}
    for run_id, of_run in blocks.items():
        is_in_blocks = Metric.epoch.between(of_run[0].first_epoch, of_run[-1].last_epoch)
        metrics = session.execute(query.where(Metric.run_id == run_id, is_in_blocks))
        found[run_id] = [dict(metric._mapping) for metric in metrics]
    return found


def _take_apart(row: Row[Any], metrics: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[PastEvent]:
    """Yield a row's events."""
    common = row.run_id, row.sweep_id, row.type
    if row.first_epoch is None:
        yield PastEvent(row.id, *common, row.data, row.created_at)
        return
    of_run = metrics[row.run_id]
    start = bisect_left(of_run, row.first_epoch, key=itemgetter("epoch"))
    end = bisect_right(of_run, row.last_epoch, key=itemgetter("epoch"))
    for event_id, data in enumerate(of_run[start:end], row.id - row.num_events + 1):
        yield PastEvent(event_id, *common, data, row.created_at)


def find_unknown_runs(session: Session, run_ids: Iterable[str]) -> set[str]:
    """Return the given ids that no run has, and no event of a deleted run."""
    return _without(session, _without(session, set(run_ids), Run.id), Event.run_id)


def find_unknown_sweeps(session: Session, sweep_ids: Iterable[str]) -> set[str]:
    """Return the given ids that no sweep has, and no event of a deleted sweep."""
    return _without(session, _without(session, set(sweep_ids), Sweep.id), Event.sweep_id)


def _without(
    session: Session, ids: set[str], column: QueryableAttribute[str] | QueryableAttribute[str | None]
) -> set[str]:
    if not ids:
        return ids
    return ids - set(session.scalars(select(column).where(column.in_(ids)).distinct()))


def last_event_id(session: Session) -> int:
    """Return the id of the newest event; 0 if there has never been one."""
    return session.scalars(select(EventCounter.last_event_id)).one()


def last_of_sweep(session: Session, sweep_id: str) -> int | None:
    """Return the id of the newest event of a sweep and its trials; None if none is kept."""
    return session.scalar(select(func.max(Event.id)).where(Event.sweep_id == sweep_id))


def delete_of_run(session: Session, run_id: str, limit: int) -> int:
    """Delete at most `limit` rows of a deleted run, except its `deleted` event; return the number deleted."""
    of_run = (Event.run_id == run_id, Event.type != EventType.DELETED)
    ids = session.scalars(select(Event.id).where(*of_run).order_by(Event.id).limit(limit)).all()
    if ids:
        session.execute(delete(Event).where(*of_run, Event.id <= ids[-1]))
    return len(ids)


def delete_of_sweep(session: Session, sweep_id: str) -> None:
    """Delete the events of a deleted sweep itself, except `sweep_deleted`."""
    is_own = (Event.sweep_id == sweep_id, Event.run_id.is_(None), Event.type != EventType.SWEEP_DELETED)
    session.execute(delete(Event).where(*is_own))


def delete_older(session: Session, moment: datetime, limit: int) -> int:
    """Delete at most `limit` rows from before a moment, oldest first; return the number deleted."""
    oldest = session.execute(select(Event.id, Event.created_at).order_by(Event.id).limit(limit)).all()
    old = [event.id for event in oldest if event.created_at < moment]
    if old:
        session.execute(delete(Event).where(Event.id.in_(old)))
    return len(old)
