"""The feed behind the streams: each stream gets every event once and in order, with many and with slow clients."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.database import Database
from app.events import feed as feed_module
from app.events.feed import Feed
from app.events.repository import EventFilter
from app.events.stream import Stream
from app.queue import lifecycle
from app.tables import Run, RunStatus
from tests.app.events.test_events import record
from tests.conftest import AddRun, counting_statements

POLL_SECONDS = 0.05
PATIENCE_SECONDS = 60


@asynccontextmanager
async def following(database: Database) -> AsyncIterator[Feed]:
    feed = Feed(database, POLL_SECONDS)
    task = asyncio.create_task(feed.follow())
    yield feed
    task.cancel()


async def collect(feed: Feed, number: int, *, after: int | None = None, wanted: EventFilter | None = None) -> list[int]:
    """Return the ids of the next `number` events."""
    ids: list[int] = []
    async with feed.join(after) as position:
        async for batch in feed.read(wanted or EventFilter(), position):
            ids += [event.id for event in batch]
            if len(ids) >= number:
                break
    return ids


async def join_all(feed: Feed, number: int) -> None:
    """Wait until `number` streams are registered; a stream does not get events from before its registration."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while feed._num_streams < number:
            await asyncio.sleep(POLL_SECONDS / 10)


def test_a_hundred_streams_cost_one_query_an_interval(database: Database) -> None:
    async def main() -> None:
        async with following(database) as feed:
            with counting_statements(database, "FROM event") as statements:
                streams = [asyncio.create_task(collect(feed, 30)) for _ in range(100)]
                await join_all(feed, 100)
                await asyncio.sleep(POLL_SECONDS)
                num_opening = len(statements)
                assert num_opening <= 100 + 3  # each stream queries the newest id at most once
                started = asyncio.get_running_loop().time()
                for _ in range(10):
                    await asyncio.to_thread(record, database, "a", "b", "c")
                    await asyncio.sleep(POLL_SECONDS)
                found = await asyncio.gather(*streams)
                num_intervals = (asyncio.get_running_loop().time() - started) / POLL_SECONDS
                assert found == [list(range(1, 31))] * 100
                # Each writing transaction also sends a statement, but that one names only the counter table.
                num_reads = sum("FROM events" in statement for statement in statements[num_opening:])
                assert 1 <= num_reads <= num_intervals + 2

    asyncio.run(main())


def test_without_a_stream_nothing_is_queried(database: Database) -> None:
    async def main() -> None:
        async with following(database) as feed:
            await collect_one(feed)
            with counting_statements(database, "FROM event") as statements:
                await asyncio.sleep(5 * POLL_SECONDS)
                assert statements == []

    async def collect_one(feed: Feed) -> None:
        stream = asyncio.create_task(collect(feed, 1))
        await join_all(feed, 1)
        await asyncio.to_thread(record, database, "a")
        assert await stream == [1]

    asyncio.run(main())


def test_a_stream_from_the_past_reads_what_is_not_in_memory(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 4)

    async def main() -> None:
        for _ in range(5):
            record(database, "a", "b", "a")
        async with following(database) as feed:
            assert await collect(feed, 15, after=0) == list(range(1, 16))
            assert await collect(feed, 5, after=10) == [11, 12, 13, 14, 15]
            assert await collect(feed, 5, after=0, wanted=EventFilter(("b",))) == [2, 5, 8, 11, 14]

    asyncio.run(main())


def test_a_slow_stream_misses_nothing_when_its_place_is_no_longer_in_memory(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_RECENT", 3)
    monkeypatch.setattr(feed_module, "PAGE", 4)

    async def main() -> None:
        async with following(database) as feed, feed.join(None) as position:
            await asyncio.to_thread(record, database, "a")
            ids: list[int] = []
            async for batch in feed.read(EventFilter(), position):
                ids += [event.id for event in batch]
                if len(ids) >= 40:
                    break
                await asyncio.to_thread(record, database, *["a"] * 15)  # more events than the feed keeps in memory
                await asyncio.sleep(2 * POLL_SECONDS)
            assert ids == list(range(1, len(ids) + 1))

    asyncio.run(main())


def test_a_quiet_stream_is_kept_alive_while_others_are_busy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "KEEPALIVE_SECONDS", 4 * POLL_SECONDS)

    async def main() -> None:
        async with following(database) as feed, feed.join(None) as position:
            batches = feed.read(EventFilter(("quiet",)), position)
            for _ in range(2):
                waiting = asyncio.ensure_future(anext(batches))
                while not waiting.done():
                    await asyncio.to_thread(record, database, "busy")
                    await asyncio.sleep(POLL_SECONDS)
                assert waiting.result() == []

    asyncio.run(main())


def test_an_event_that_cannot_be_read_does_not_end_the_following(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with following(database) as feed:
            stream = asyncio.create_task(collect(feed, 2))
            await join_all(feed, 1)
            with monkeypatch.context() as patch:
                patch.setattr(feed_module.FeedEvent, "of", classmethod(lambda _cls, _event: 1 / 0))
                await asyncio.to_thread(record, database, "a")
                await asyncio.sleep(3 * POLL_SECONDS)
            await asyncio.to_thread(record, database, "a")
            assert await asyncio.wait_for(stream, PATIENCE_SECONDS) == [1, 2]

    asyncio.run(main())


def test_a_stream_with_a_filter_gets_its_own_events_alone(database: Database) -> None:
    async def main() -> None:
        async with following(database) as feed:
            stream = asyncio.create_task(collect(feed, 2, wanted=EventFilter(("b", "c"), "s")))
            await join_all(feed, 1)
            await asyncio.to_thread(record, database, "a", "b", "c")
            await asyncio.to_thread(record, database, "a", "b", "c", sweep_id="s")
            assert await stream == [5, 6]

    asyncio.run(main())


def test_an_id_from_the_future_is_taken_for_the_newest(database: Database) -> None:
    """A client has such an id after the database was restored from a backup."""

    async def main() -> None:
        record(database, "a")
        async with following(database) as feed:
            stream = asyncio.create_task(collect(feed, 1, after=1_000_000))
            await join_all(feed, 1)
            await asyncio.to_thread(record, database, "a")
            assert await stream == [2]

    asyncio.run(main())


def test_closing_ends_all_streams(database: Database) -> None:
    async def main() -> None:
        async with following(database) as feed:
            streams = [asyncio.create_task(collect(feed, 1)) for _ in range(3)]
            await join_all(feed, 3)
            feed.close()
            assert await asyncio.wait_for(asyncio.gather(*streams), PATIENCE_SECONDS) == [[], [], []]

    asyncio.run(main())


@pytest.mark.parametrize("is_over", [True, False])
def test_a_runs_stream_ends_with_the_transaction_in_which_it_ended(
    database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 2)
    run_id = add_run()

    def end_run() -> None:
        with database.writing() as session:
            run = session.get_one(Run, run_id)
            lifecycle.end(session, run, RunStatus.CANCELLED)
            record_promotion(session, run)

    async def main() -> None:
        async with following(database) as feed:
            if is_over:
                end_run()
            async with feed.join(0) as position:
                stream = Stream(feed, EventFilter((run_id,)), position, end=3 if is_over else None)
                task = asyncio.create_task(types(stream))
                await asyncio.sleep(2 * POLL_SECONDS)
                if not is_over:
                    await asyncio.to_thread(end_run)
                assert await asyncio.wait_for(task, PATIENCE_SECONDS) == ["queued", "cancelled", "promoted"]

    async def types(stream: Stream) -> list[str]:
        text = b"".join([part async for part in stream.events_of_run()]).decode()
        return re.findall("^event: (.*)$", text, re.MULTILINE)

    asyncio.run(main())


def record_promotion(session: Any, run: Run) -> None:
    from app.events import journal
    from app.tables import EventType

    journal.record(session, run, EventType.PROMOTED)
