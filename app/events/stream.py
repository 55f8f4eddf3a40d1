"""Events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from fastapi.sse import ServerSentEvent

from app.events.feed import Feed, FeedEvent
from app.events.repository import EventFilter

MAX_EVENT_ID = 2**63 - 1

EventCursor = Annotated[
    int | None, Query(ge=0, le=MAX_EVENT_ID, description="The id of an event; those behind it follow.")
]
LastEventId = Annotated[
    int | None,
    Header(ge=0, le=MAX_EVENT_ID, description="What a reconnecting client sends by itself; it outranks `after`."),
]


@dataclass(frozen=True)
class Stream:
    """An open stream: what it shows, and from where on."""

    feed: Feed
    wanted: EventFilter
    position: int
    end: int | None = None  # the newest event, where nothing more can happen

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Everything, until the client leaves or the service stops."""
        # An id alone: a client that reconnects before its first event misses nothing either.
        yield ServerSentEvent(id=str(self.position))
        async for batch in self.feed.read(self.wanted, self.position):
            for event in batch:
                yield _to_sse(event)

    async def events_of_run(self) -> AsyncIterator[ServerSentEvent]:
        """Everything, until the run has ended."""
        if self.end is not None:
            batches = self.feed.replay(self.wanted, self.position, self.end)
        else:
            batches = self._events_until_last()
        async for batch in batches:
            for event in batch:
                yield _to_sse(event)

    async def _events_until_last(self) -> AsyncIterator[Sequence[FeedEvent]]:
        async for batch in self.feed.read(self.wanted, self.position):
            yield batch
            if any(event.type.is_last() for event in batch):
                # In the same transaction it may have been promoted.
                async for rest in self.feed.replay(self.wanted, batch[-1].id, self.feed.position):
                    yield rest
                return


def _to_sse(event: FeedEvent) -> ServerSentEvent:
    return ServerSentEvent(id=str(event.id), event=event.type.value, raw_data=event.json)


def _feed(request: Request) -> Feed:
    feed: Feed = request.app.state.feed
    return feed


FeedDep = Annotated[Feed, Depends(_feed)]
