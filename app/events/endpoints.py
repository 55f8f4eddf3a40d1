"""Endpoints of `/events`: the events of all runs. The events of one run are at `/runs/{run_id}/events`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from app.database import Database
from app.events import service
from app.events.repository import EventFilter
from app.events.schemas import EventView
from app.events.stream import EventCursor, EventStreamResponse, FeedDep, LastEventId, Stream, respond
from app.http.dependencies import DatabaseDep, InTurn, ReadSession
from app.http.head import is_head
from app.http.problem import problems
from app.paging import Page
from app.validation import Id

router = APIRouter(tags=["events"])

MAX_EVENTS = 1000
MAX_RUN_IDS = 200

EventLimit = Annotated[int, Query(ge=1, le=MAX_EVENTS, description="Most entries to return.")]


def _wanted(
    run_id: Annotated[
        list[Id], Query(max_length=MAX_RUN_IDS, description="Of this run; may be given several times.")
    ] = [],  # noqa: B006, FastAPI copies it
    sweep_id: Annotated[Id | None, Query(description="Of this sweep's trials.")] = None,
) -> EventFilter:
    return EventFilter(tuple(run_id), sweep_id)


Wanted = Annotated[EventFilter, Depends(_wanted)]


@router.get("/events", summary="Read events", responses=problems(404), dependencies=[InTurn])
def list_events(
    session: ReadSession, wanted: Wanted, limit: EventLimit = 100, after: EventCursor = 0
) -> Page[EventView]:
    """What has happened, oldest first: runs are queued, start, have metrics, are paused, end."""
    service.require_known(session, wanted)
    return service.page(session, wanted, after=after or 0, limit=limit)


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
