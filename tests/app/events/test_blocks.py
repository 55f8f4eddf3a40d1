"""Blocks of events: the metrics of a run in one commit are one row, which is read as one event per epoch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from app.database import Database
from app.events import feed as feed_module
from app.events import journal, repository
from app.events.past_event import PastEvent
from app.events.repository import EventFilter
from app.tables import Event, EventType, Metric, Run
from tests.app.events.test_events import record
from tests.app.events.test_feed import collect, following
from tests.conftest import AddRun, TestClient

EVERYTHING = EventFilter()


def evaluate(database: Database, epochs: dict[str, Sequence[int]]) -> None:
    """Write one commit as the recorder does: metrics of each run at these epochs, then a checkpoint event."""
    with database.writing() as session:
        for run_id, each in epochs.items():
            session.add_all(_metric(run_id, epoch) for epoch in each)
            run = session.get_one(Run, run_id)
            journal.record_metrics(session, run, each)
            journal.record(session, run, EventType.CHECKPOINT, role="last", epoch=each[-1])


def _metric(run_id: str, epoch: int) -> Metric:
    losses = dict.fromkeys(("train_loss", "train_eval_loss", "val_loss"), 1 / epoch)
    accuracies = dict.fromkeys(("train_accuracy", "train_eval_accuracy", "val_accuracy"), 1 - 1 / epoch)
    norms = {"gradient_norms": [1 / epoch, 1 / 3], "weight_norms": [float(epoch)]}
    return Metric(run_id=run_id, epoch=epoch, seconds=epoch / 7, **losses, **accuracies, **norms)


def read(
    database: Database, wanted: EventFilter = EVERYTHING, *, after: int = 0, limit: int = 1000, up_to: int | None = None
) -> list[PastEvent]:
    with database.reading() as session:
        return repository.list_events(session, wanted, after=after, limit=limit, up_to=up_to)


def count_rows(database: Database) -> int:
    with database.reading() as session:
        return session.scalars(select(func.count()).select_from(Event)).one()


def ids(events: Iterable[Any]) -> list[int]:
    return [event.id for event in events]


@pytest.fixture
def runs(database: Database, add_run: AddRun) -> tuple[str, str]:
    """Add two runs with events of every kind.

    Events 1 and 2 are `queued`, event 3 is a metric event in a row of its own, and events 4 to 15 are two commits of
    both runs.
    """
    first, second = add_run(), add_run()
    record(database, first)
    evaluate(database, {first: [1, 20], second: [1, 2, 3]})  # events 4, 5, checkpoint 6; 7, 8, 9, checkpoint 10
    evaluate(database, {first: [40], second: [4, 5]})  # events 11, checkpoint 12; 13, 14, checkpoint 15
    return first, second


def test_a_block_is_read_as_an_event_an_epoch(client: TestClient, database: Database, runs: tuple[str, str]) -> None:
    first, second = runs
    assert count_rows(database) == 3 + 4 * 2
    events = client.get("/events").json()["data"]
    assert ids_of(events) == list(range(1, 16))
    for run_id, epochs in ((first, [1, 20, 40]), (second, [1, 2, 3, 4, 5])):
        stored = client.get(f"/runs/{run_id}/metrics").json()["data"]
        of_run = [event for event in events if event["run_id"] == run_id and event["type"] == "metric"]
        shown = [event["data"] for event in of_run if len(event["data"]) > 1]  # event 3 holds only an epoch
        assert shown == stored
        assert [data["epoch"] for data in shown] == epochs
    assert events[2]["data"] == {"epoch": 1}


def ids_of(events: Iterable[dict[str, Any]]) -> list[int]:
    return [event["id"] for event in events]


def test_pages_begin_and_end_within_blocks(database: Database, runs: tuple[str, str]) -> None:
    everything = read(database)
    for after in range(16):
        for limit in range(1, 17 - after):
            assert read(database, after=after, limit=limit) == everything[after : after + limit]
        for up_to in range(after, 16):
            assert read(database, after=after, up_to=up_to) == everything[after:up_to]
    of_second = [event for event in everything if event.run_id == runs[1]]
    assert ids(of_second) == [2, 7, 8, 9, 10, 13, 14, 15]
    for start in range(8):
        page = read(database, EventFilter((runs[1],)), after=of_second[start].id - 1, limit=3)
        assert page == of_second[start : start + 3]


def test_streams_begin_and_go_on_within_blocks(
    database: Database, runs: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 2)
    monkeypatch.setattr(feed_module, "MAX_RECENT", 3)

    async def main() -> None:
        async with following(database) as feed:
            assert await collect(feed, 15, after=0) == list(range(1, 16))
            assert await collect(feed, 7, after=8) == list(range(9, 16))
            assert await collect(feed, 5, after=8, wanted=EventFilter((runs[1],))) == [9, 10, 13, 14, 15]
            async with feed.join(13) as position:
                await asyncio.to_thread(evaluate, database, {runs[1]: range(6, 16)})
                seen: list[int] = []
                async for batch in feed.read(EVERYTHING, position):
                    seen += ids(batch)
                    if len(seen) >= 13:
                        break
                assert seen == list(range(14, 27))

    asyncio.run(main())


def test_a_long_block_is_several_rows(
    database: Database, runs: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_BLOCK_EVENTS", 4)
    before = count_rows(database)
    evaluate(database, {runs[0]: range(41, 51)})
    assert count_rows(database) - before == 3 + 1
    events = read(database, after=15)
    assert ids(events) == list(range(16, 27))
    assert [event.data["epoch"] for event in events[:-1]] == list(range(41, 51))


def test_an_epoch_that_is_recorded_twice_is_refused_with_all_that_came_with_it(
    database: Database, runs: tuple[str, str]
) -> None:
    before, rows = read(database), count_rows(database)
    with pytest.raises(IntegrityError):
        evaluate(database, {runs[1]: [5, 6]})
    assert (read(database), count_rows(database)) == (before, rows)
    evaluate(database, {runs[1]: [6]})
    assert ids(read(database, after=15)) == [16, 17]  # the refused transaction used no id


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_a_block_whose_metrics_are_gone_hides_nothing_that_follows(
    database: Database, runs: tuple[str, str], limit: int
) -> None:
    with database.writing() as session:
        session.execute(delete(Metric).where(Metric.run_id == runs[1]))
    seen: list[int] = []
    while page := read(database, after=seen[-1] if seen else 0, limit=limit):
        seen += ids(page)
    assert seen == [1, 2, 3, 4, 5, 6, 10, 11, 12, 15]


def test_a_deleted_runs_blocks_go_with_it(client: TestClient, database: Database, runs: tuple[str, str]) -> None:
    client.post(f"/runs/{runs[1]}/cancel")
    assert client.delete(f"/runs/{runs[1]}").status_code == 204
    left = read(database)
    assert [event.id for event in left] == [1, 3, 4, 5, 6, 11, 12, 17]
    assert left[-1].type is EventType.DELETED
