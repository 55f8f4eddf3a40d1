"""Endpoints of `/events`: the events of all runs. The events of one run are at `/runs/{run_id}/events`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from app.database import Database
from app.events import repository, service
from app.events.repository import EventFilter
from app.events.schemas import EventView, LatestEvent
from app.events.stream import (
    EventCursor,
    EventStreamResponse,
    EventTypes,
    FeedDep,
    LastEventId,
    Stream,
    respond,
)
from app.http.dependencies import DatabaseDep, InTurn, ReadSession
from app.http.head import is_head
from app.http.problem import problems
from app.paging import Page
from app.validation import Id

router = APIRouter(tags=["events"])

MAX_EVENTS = 1000
MAX_RUN_IDS = 200
MAX_METRICS_OF = 64

EventLimit = Annotated[int, Query(ge=1, le=MAX_EVENTS, description="Most entries to return.")]


def _wanted(
    run_id: Annotated[
        list[Id], Query(max_length=MAX_RUN_IDS, description="Of this run; may be given several times.")
    ] = [],  # noqa: B006, FastAPI copies it
    sweep_id: Annotated[Id | None, Query(description="Of this sweep and its trials.")] = None,
    types: EventTypes = [],  # noqa: B006
    metrics_of: Annotated[
        list[Id],
        Query(
            max_length=MAX_METRICS_OF,
            description="A `metric` or `checkpoint` of this run, whatever `type` says; may be given several times, and "
            "unknown ids are left out. Without `type`: all other types, and of these two those of these runs alone.",
        ),
    ] = [],  # noqa: B006
) -> EventFilter:
    return EventFilter(tuple(run_id), sweep_id, tuple(types), tuple(metrics_of))


Wanted = Annotated[EventFilter, Depends(_wanted)]


@router.get("/events", summary="Read events", responses=problems(404), dependencies=[InTurn])
def list_events(
    session: ReadSession, wanted: Wanted, limit: EventLimit = 100, after: EventCursor = 0
) -> Page[EventView]:
    """What has happened, oldest first: runs are queued, start, have metrics, are paused, end."""
    service.require_known(session, wanted)
    return service.page(session, wanted, after=after or 0, limit=limit)


@router.get("/events/latest", summary="Read the newest event's id", responses=problems())
def get_latest_event(session: ReadSession) -> LatestEvent:
    """Where the list of all events ends now.

    A client that reads this, then lists runs or sweeps, and then follows the events after this id, misses nothing that
    its lists do not show; it may get a few events that they show already.
    """
    return LatestEvent(id=repository.last_event_id(session))


async def _open(
    request: Request,
    database: DatabaseDep,
    feed: FeedDep,
    wanted: Wanted,
    after: EventCursor = None,
    last_event_id: LastEventId = None,
) -> AsyncIterator[Stream]:
    await run_in_threadpool(_require_known, database, wanted)
    if is_head(request):
        yield Stream(feed, wanted, 0)
        return
    async with feed.join(after if last_event_id is None else last_event_id) as position:
        yield Stream(feed, wanted, position)


def _require_known(database: Database, wanted: EventFilter) -> None:
    if wanted != EventFilter():  # a filter for all events needs no query
        with database.reading() as session:
            service.require_known(session, wanted)


@router.get("/events/stream", summary="Follow events", responses=problems(404), response_class=EventStreamResponse)
async def stream_events(stream: Annotated[Stream, Depends(_open)]) -> EventStreamResponse:
    """Server-sent events, from now on, or from `after` or `Last-Event-ID` on.

    A client that reconnects with the id that it saw last misses nothing and gets nothing twice.
    """
    return respond(stream, stream.events())
