"""Sends events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BeforeValidator, Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.events.feed import Departure, Feed, FeedEvent
from app.events.repository import EventFilter
from app.tables import LAST_OF_A_RUN, EventType
from app.validation import MAX_INTEGER

EventCursor = Annotated[
    int | None, Query(ge=0, le=MAX_INTEGER, description="The id of an event; those behind it follow.")
]
EventTypes = Annotated[
    list[EventType],
    Query(alias="type", max_length=len(EventType), description="Of this type; may be given several times."),
]
LastEventId = Annotated[
    Annotated[int, Field(ge=0, le=MAX_INTEGER)] | None,
    BeforeValidator(lambda value: value or None),  # a client that has seen no event yet may send an empty one
    Header(description="What a reconnecting client sends by itself; it outranks `after`."),
]


@dataclass(frozen=True)
class Stream:
    """An open stream: its filter and its start."""

    feed: Feed
    wanted: EventFilter
    position: int
    end: int | None = None  # the id of the newest event, if no more can follow
    departure: Departure = field(default_factory=Departure)

    async def events(self) -> AsyncIterator[bytes]:
        """Yield all events until the client leaves or the service stops."""
        # This message is an id alone, so that a client that reconnects before its first event misses none.
        yield format_sse_event(id=str(self.position))
        async for batch in self.feed.read(self.wanted, self.position, self.departure):
            yield _to_bytes(batch)

    async def events_of_run(self) -> AsyncIterator[bytes]:
        """Yield all events until the run has ended, whether or not the filter selects the event of its end."""
        if self.end is not None:
            async for batch in self.feed.replay(self.wanted, self.position, self.end):
                yield _to_bytes(batch)
            return
        wider = self.wanted
        if self.wanted.types:
            wider = replace(self.wanted, types=(*self.wanted.types, *LAST_OF_A_RUN))
        async for batch in self.feed.read(wider, self.position, self.departure):
            yield _to_bytes([event for event in batch if event.is_wanted(self.wanted)])
            if any(event.type.is_last() for event in batch):
                # The transaction that ended the run may also have promoted its model.
                async for rest in self.feed.replay(self.wanted, batch[-1].id, self.feed.position):
                    yield _to_bytes(rest)
                return


def _to_bytes(batch: Sequence[FeedEvent]) -> bytes:
    """Join the events of a batch; an empty batch is a comment, so that no proxy takes the connection for dead."""
    return b"".join(event.sse for event in batch) or KEEPALIVE_COMMENT


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


FeedDep = Annotated[Feed, Depends(_feed)]


class EventStreamResponse(StreamingResponse):
    """A response that streams events.

    FastAPI's own class (`fastapi.sse.EventSourceResponse`) logs an error whenever a client leaves before the end.
    """

    media_type = "text/event-stream"

    departure: Departure | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.departure is not None:
            state = scope.setdefault("state", {})
            state["on_half_close"] = self.departure.leave  # the server calls it (`app.http.protocol`)
            if state.get("is_half_closed"):
                self.departure.leave()
        await super().__call__(scope, receive, send)


def respond(stream: Stream, events: AsyncIterator[bytes]) -> EventStreamResponse:
    """Make a response that sends each part as it comes, through proxies too."""
    response = EventStreamResponse(events, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    response.departure = stream.departure
    return response
