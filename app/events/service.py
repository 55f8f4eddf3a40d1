"""Reading events, page by page."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.events import repository
from app.events.repository import EventFilter
from app.events.schemas import EventView
from app.paging import Page


def page(session: Session, wanted: EventFilter, *, after: int, limit: int) -> Page[EventView]:
    """The events that follow an id, and the cursor of the page behind them."""
    events = repository.list_events(session, wanted, after=after, limit=limit + 1)
    has_more = len(events) > limit
    events = events[:limit]
    return Page(
        data=[EventView.of(event) for event in events],
        has_more=has_more,
        next=str(events[-1].id) if has_more else None,
    )
