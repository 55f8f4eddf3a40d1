"""Reads events, page by page."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.errors import NotFound
from app.events import repository
from app.events.repository import EventFilter
from app.events.schemas import EventView
from app.paging import Page, cut


def require_known(session: Session, wanted: EventFilter) -> None:
    """Check that the runs and the sweep of a filter exist or existed: a stream with a mistyped id would wait for ever.

    `metrics_of` only adds events. A run in it may be gone, as one that a client still shows: the other events go on.

    Raises:
        NotFound: No run, sweep or event has such an id.
    """
    for run_id in sorted(repository.find_unknown_runs(session, wanted.run_ids)):
        raise NotFound(f"There is no run {run_id}, and no event of one.", slug="run-not-found")
    sweep_ids = [] if wanted.sweep_id is None else [wanted.sweep_id]
    for sweep_id in repository.find_unknown_sweeps(session, sweep_ids):
        raise NotFound(f"There is no sweep {sweep_id}, and no event of one.", slug="sweep-not-found")


def page(session: Session, wanted: EventFilter, *, after: int, limit: int) -> Page[EventView]:
    """Return the events after an id, and the cursor of the next page."""
    found = repository.list_events(session, wanted, after=after, limit=limit + 1)
    events, cursor = cut(found, limit, lambda event: str(event.id))
    return Page.of([EventView.of(event) for event in events], cursor)
