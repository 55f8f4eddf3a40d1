"""Keeps the newest events in memory, so that any number of open streams costs one query per interval.

A stream is a position in the list of all events. Events older than those in memory are read from the database, page by
page, so that a slow or returning client misses nothing and delays no other client.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from app.database import DATABASE_FAILURES, Database, describe_failure
from app.events import repository
from app.events.past_event import PastEvent
from app.events.repository import EventFilter
from app.events.schemas import EventView
from app.tables import EventType

logger = logging.getLogger(__name__)

PAGE = 500
MAX_RECENT = 5_000  # at least so many of the newest events are in memory, and at most twice as many
KEEPALIVE_SECONDS = 15.0  # as the HTML standard recommends


@dataclass(frozen=True)
class FeedEvent:
    """An event, serialized for sending."""

    id: int
    run_id: str | None
    sweep_id: str | None
    type: EventType
    sse: bytes

    @classmethod
    def of(cls, event: PastEvent) -> FeedEvent:
        text = EventView.of(event).model_dump_json()
        sse = format_sse_event(data_str=text, event=event.type.value, id=str(event.id))
        return cls(event.id, event.run_id, event.sweep_id, event.type, sse)

    def is_wanted(self, wanted: EventFilter) -> bool:
        return wanted.accepts(self.run_id, self.sweep_id, self.type)


class Departure:
    """Ends a stream as soon as it has sent all past events, once its client has announced that it leaves."""

    def __init__(self) -> None:
        self.has_left = False
        self._pause: asyncio.Timeout | None = None

    def leave(self) -> None:
        self.has_left = True
        if self._pause is not None and not self._pause.expired():
            self._pause.reschedule(0)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for an event, at most for `seconds`; return at once if the client has left."""
        if self.has_left:
            return
        try:
            async with asyncio.timeout(seconds) as self._pause:
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._pause = None


class Feed:
    """Follows the events of one database for the streams of one API process.

    Args:
        database: Database whose events are followed.
        poll_seconds: Pause between two queries for new events while a stream is open, in seconds.
    """

    def __init__(self, database: Database, poll_seconds: float) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._num_streams = 0
        self._recent: list[FeedEvent] = []
        self._floor = 0  # all events after this id…
        self._position = 0  # …and up to this id are in `_recent`
        self._news = asyncio.Event()
        self._is_closed = False
        self._has_failed = False

    @property
    def position(self) -> int:
        """The id of the newest event that streams have received; it never lies within a transaction's events."""
        return self._position

    async def follow(self) -> None:
        """Read new events while a stream is open; this runs as a task."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if self._num_streams:
                try:
                    await self._refresh()
                except Exception:  # such as an event of an unknown type; the next query may succeed
                    logger.exception("Event streams wait")

    def close(self) -> None:
        """End all streams; the feed cannot be used afterwards."""
        self._is_closed = True
        self._announce()

    @asynccontextmanager
    async def join(self, after: int | None) -> AsyncIterator[int]:
        """Register a stream, for which the feed follows new events; yield the id after which the stream begins.

        Args:
            after: Id of the last event that the client has; None: the stream begins with the next new event.
        """
        if not self._num_streams or (after is not None and after > self._position):
            newest = await asyncio.to_thread(self._read_last_id)
            if not self._num_streams:
                self._recent, self._floor, self._position = [], newest, newest
            if after is not None:
                after = min(after, newest)  # it is larger if the database was restored from a backup
        self._num_streams += 1
        try:
            yield self._position if after is None else after
        finally:
            self._num_streams -= 1

    async def read(
        self, wanted: EventFilter, position: int, departure: Departure | None = None
    ) -> AsyncIterator[Sequence[FeedEvent]]:
        """Yield the events after a position in batches as they happen, until the feed is closed or the client has left.

        A batch is empty if no event has happened for `KEEPALIVE_SECONDS`.
        """
        departure = departure or Departure()
        quiet_since = time.monotonic()
        while not self._is_closed:
            news = self._news
            if position < self._floor:
                events, position = await self._read_page(wanted, position, self._position)
            else:
                start = bisect_right(self._recent, position, key=lambda event: event.id)
                events = [event for event in self._recent[start:] if event.is_wanted(wanted)]
                position = max(position, self._position)
            if events or time.monotonic() - quiet_since >= KEEPALIVE_SECONDS:
                yield events
                quiet_since = time.monotonic()
            if position >= self._position:
                if departure.has_left:
                    return
                await departure.wait(news, KEEPALIVE_SECONDS - (time.monotonic() - quiet_since))

    async def replay(self, wanted: EventFilter, position: int, end: int) -> AsyncIterator[Sequence[FeedEvent]]:
        """Yield the events after a position and up to an end that has happened already."""
        while position < end and not self._is_closed:
            events, position = await self._read_page(wanted, position, end)
            if events:
                yield events

    async def _read_page(self, wanted: EventFilter, position: int, up_to: int) -> tuple[Sequence[FeedEvent], int]:
        def read() -> Sequence[FeedEvent]:
            with self._database.reading() as session:
                page = repository.list_events(session, wanted, after=position, limit=PAGE, up_to=up_to)
                return [FeedEvent.of(event) for event in page]

        try:
            events = await asyncio.to_thread(read)
        except DATABASE_FAILURES as error:
            self._report(error)
            await asyncio.sleep(self._poll_seconds)
            return [], position
        return events, events[-1].id if len(events) == PAGE else up_to

    async def _refresh(self) -> None:
        try:
            new = await asyncio.to_thread(self._read_new)
        except DATABASE_FAILURES as error:
            self._report(error)
            return
        self._has_failed = False
        new = [event for event in new if event.id > self._position]  # another stream may have begun meanwhile
        if new:
            self._recent += new
            self._position = new[-1].id
            if len(self._recent) > 2 * MAX_RECENT:
                self._floor = self._recent[-MAX_RECENT - 1].id
                del self._recent[:-MAX_RECENT]
            self._announce()

    def _read_new(self) -> list[FeedEvent]:
        new: list[FeedEvent] = []
        with self._database.reading() as session:  # one snapshot: a transaction's events come together
            while True:
                after = new[-1].id if new else self._position
                page = repository.list_events(session, EventFilter(), after=after, limit=PAGE)
                new += [FeedEvent.of(event) for event in page]
                if len(page) < PAGE:
                    return new

    def _report(self, error: SQLAlchemyError) -> None:
        if not self._has_failed:
            logger.error("Event streams wait: %s", describe_failure(error))
        self._has_failed = True

    def _read_last_id(self) -> int:
        with self._database.reading() as session:
            return repository.last_event_id(session)

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
