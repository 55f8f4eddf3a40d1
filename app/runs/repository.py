"""Queries over runs, metrics and checkpoints. The service holds the rules, `app.queue` the queue's transitions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from types import UnionType
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Subquery, and_, case, delete, func, or_, select, union, update
from sqlalchemy.orm import InstrumentedAttribute, Session, undefer

from app.database import utc_now
from app.events import repository as events
from app.paging import cut, decode_cursor, encode_cursor
from app.tables import INCLUDE_DELETED, Checkpoint, Evaluation, Metric, Run, RunStatus, SavedModel, Snapshot, Sweep

ROWS_A_BLOB = 20  # deleting one blob takes about as long as deleting this many rows

_NUMBER = int | float | None
_SORTS: dict[str, tuple[InstrumentedAttribute[Any], type | UnionType]] = {
    "created_at": (Run.id, str),  # UUIDv7: ids sort by creation
    "val_accuracy": (Run.best_val_accuracy, _NUMBER),
    "shifted_accuracy": (Run.shifted_accuracy, _NUMBER),
    "num_parameters": (Run.num_parameters, _NUMBER),
    "name": (Run.name, str),
}


def get(session: Session, run_id: str) -> Run | None:
    return session.get(Run, run_id)


def get_all(session: Session, run_ids: Collection[str]) -> dict[str, Run]:
    """Return those of the given runs that exist, by id."""
    return {run.id: run for run in session.scalars(select(Run).where(Run.id.in_(run_ids)))}


def get_locked(session: Session, run_id: str) -> Run | None:
    """Return a run's current row, locked until the transaction ends."""
    return session.get(Run, run_id, with_for_update=True, populate_existing=True)


def list_runs(
    session: Session,
    *,
    which: Sequence[ColumnElement[bool]],
    sort: str,
    limit: int,
    after: str | None,
) -> tuple[Sequence[Run], str | None]:
    """Return a page of runs, and the next page's cursor or None. Runs without the sort value come last."""
    query = select(Run).where(*which)
    name = sort.removeprefix("-")
    query = _page(query, name, is_descending=sort.startswith("-"), after=after).limit(limit + 1)
    runs = session.scalars(query).all()
    return cut(runs, limit, lambda last: encode_cursor(getattr(last, _SORTS[name][0].key), last.id))


def _page(query: Select[Run], name: str, *, is_descending: bool, after: str | None) -> Select[Run]:
    """Order by one column, then by id; start after the cursor (keyset pagination)."""
    column, value_type = _SORTS[name]
    direction = "desc" if is_descending else "asc"
    query = query.order_by(column.is_(None), getattr(column, direction)(), getattr(Run.id, direction)())
    if after is None:
        return query
    value, run_id = decode_cursor(after, value_type, str)
    id_is_behind: ColumnElement[bool] = Run.id < run_id if is_descending else Run.id > run_id
    if value is None:
        return query.where(and_(column.is_(None), id_is_behind))
    is_behind: ColumnElement[bool] = column < value if is_descending else column > value
    return query.where(or_(is_behind, and_(column == value, id_is_behind), column.is_(None)))


def count_by_status(session: Session, which: Sequence[ColumnElement[bool]]) -> dict[RunStatus, int]:
    """Count the runs for which these conditions hold; a status that none has is left out."""
    query = select(Run.status, func.count()).where(*which).group_by(Run.status)
    return dict(iter(session.execute(query)))


def has_runs(session: Session) -> bool:
    return session.scalar(select(Run.id).limit(1)) is not None


def count_queued(session: Session) -> int:
    return session.scalar(select(func.count(Run.id)).where(Run.status == RunStatus.QUEUED)) or 0


def queue_positions(session: Session, run_ids: Collection[str]) -> dict[str, int]:
    """Return the place in the queue, from 1, of each given run that is queued."""
    place = func.row_number().over(order_by=(Run.priority.desc(), Run.id)).label("place")
    queue = select(Run.id, place).where(Run.status == RunStatus.QUEUED).subquery()
    rows = session.execute(select(queue.c.id, queue.c.place).where(queue.c.id.in_(run_ids)))
    return {row.id: row.place for row in rows}


def list_metrics(
    session: Session, run_id: str, *, after_epoch: int, until: int | None, limit: int | None
) -> Sequence[Metric]:
    query = select(Metric).where(Metric.run_id == run_id, *_between(Metric.epoch, after_epoch, until))
    query = query.order_by(Metric.epoch)
    return session.scalars(query.limit(limit)).all()


def thinned_metrics(
    session: Session, run_id: str, points: int, *, after_epoch: int, until: int | None
) -> Sequence[Metric]:
    """Return about `points` metrics of a range of epochs, evenly spaced, with the range's first, last and best one."""
    kept = thinned_epochs([run_id], points, after_epoch, until)
    is_kept = (Metric.run_id == kept.c.run_id) & (Metric.epoch == kept.c.epoch)
    return session.scalars(select(Metric).join(kept, is_kept).order_by(Metric.epoch)).all()


def _between(epoch: Any, after: int, until: int | None) -> list[Any]:
    """Return the conditions that an epoch lies after `after`, and not after `until`."""
    return [epoch > after] if until is None else [epoch > after, epoch <= until]


def thinned_epochs(run_ids: Collection[str], points: int, after: int = 0, until: int | None = None) -> Subquery:
    """Select about `points` evaluated epochs of each run, evenly spaced, with the first, the last and the best one.

    The epochs of a run are divided into `points` stretches, the last of which is the last epoch alone; the first
    evaluated epoch of each stretch is kept. This takes two fifths of the time that numbering the rows takes.

    Args:
        run_ids: The runs.
        points: Number of stretches, at least 2; a run with no more evaluated epochs keeps all.
        after: The epochs behind it count.
        until: The last epoch that counts, None for the run's last one.

    Returns:
        Columns `run_id`, `epoch`, and `of`, the run's number of evaluated epochs.
    """
    first, last = func.min(Metric.epoch).label("first"), func.max(Metric.epoch).label("last")
    spans = select(Metric.run_id, first, last, func.count().label("of"))
    spans = spans.where(Metric.run_id.in_(run_ids), *_between(Metric.epoch, after, until))
    span = spans.group_by(Metric.run_id).subquery()
    length = func.nullif(span.c.last - span.c.first, 0, type_=Integer)
    stretch = (Metric.epoch - span.c.first) * (points - 1) // length
    begins = select(span.c.run_id, func.min(Metric.epoch).label("epoch"), span.c.of)
    begins = begins.join(Metric, (Metric.run_id == span.c.run_id) & Metric.epoch.between(span.c.first, span.c.last))
    begins = begins.group_by(span.c.run_id, span.c.of, case((span.c.of <= points, Metric.epoch), else_=stretch))
    best = select(span.c.run_id, Run.best_epoch, span.c.of).join(Run, Run.id == span.c.run_id)
    return union(begins, best.where(Run.best_epoch.between(span.c.first, span.c.last))).subquery()


def list_checkpoints(session: Session, run_id: str) -> Sequence[Checkpoint]:
    return session.scalars(select(Checkpoint).where(Checkpoint.run_id == run_id).order_by(Checkpoint.role)).all()


def get_checkpoint(session: Session, run_id: str, role: str) -> Checkpoint | None:
    """Return a checkpoint with its blob."""
    return session.get(Checkpoint, (run_id, role), options=[undefer(Checkpoint.blob)])


def delete_last_checkpoints(session: Session, finished_before: datetime, limit: int) -> int:
    """Delete at most `limit` `last` checkpoints of runs that finished before a moment; return the number deleted."""
    of_finished = select(Checkpoint.run_id).join(Run, Run.id == Checkpoint.run_id)
    of_finished = of_finished.where(Checkpoint.role == "last", Run.finished_at < finished_before)
    old = session.scalars(of_finished.order_by(Checkpoint.run_id).limit(limit)).all()
    if old:
        session.execute(delete(Checkpoint).where(Checkpoint.role == "last", Checkpoint.run_id.in_(old)))
    return len(old)


def mark_deleted(session: Session, *which: ColumnElement[bool]) -> None:
    """Hide runs for good and free their idempotency keys; `purge_deleted` deletes their rows in small batches."""
    values = {"deleted_at": utc_now(), "idempotency_key": None, "submission_sha256": None}
    session.execute(update(Run).where(*which).values(values), execution_options={"synchronize_session": False})


def purge_deleted(session: Session, limit: int) -> int:
    """Delete about `limit` rows of runs and sweeps marked as deleted; return the number deleted, 0 at the end.

    A run's row is deleted after everything that the run holds, a sweep's row after all marked runs.
    """
    marked = select(Run.id).where(Run.deleted_at.is_not(None)).order_by(Run.id).limit(limit)
    run_ids = session.scalars(marked.with_for_update(skip_locked=True), execution_options=INCLUDE_DELETED).all()
    left = limit
    for run_id in run_ids:
        left -= _delete_metrics(session, run_id, left)
        left -= events.delete_of_run(session, run_id, left) if left > 0 else 0
        for table in (Checkpoint, Evaluation, SavedModel, Snapshot):
            if left > 0:
                held = session.scalars(select(table.run_id).where(table.run_id == run_id)).all()
                session.execute(delete(table).where(table.run_id == run_id))
                left -= ROWS_A_BLOB * len(held)
        if left <= 0:
            break
        session.execute(delete(Run).where(Run.id == run_id))
        left -= 1
    if not run_ids:
        sweep = session.scalar(
            select(Sweep.id).where(Sweep.deleted_at.is_not(None)).limit(1), execution_options=INCLUDE_DELETED
        )
        if sweep is not None:
            events.delete_of_sweep(session, sweep)
        session.execute(delete(Sweep).where(Sweep.id == sweep))
        left -= sweep is not None
    return limit - left


def _delete_metrics(session: Session, run_id: str, limit: int) -> int:
    of_run = Metric.run_id == run_id
    epochs = session.scalars(select(Metric.epoch).where(of_run).order_by(Metric.epoch).limit(limit)).all()
    if epochs:
        session.execute(delete(Metric).where(of_run, Metric.epoch <= epochs[-1]))
    return len(epochs)
