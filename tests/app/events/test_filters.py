"""Filters of events: pages, replays and live streams select alike, and a large sweep sends little."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from app.database import Database
from app.events import feed as feed_module
from app.events import journal
from app.events.repository import EventFilter
from app.events.stream import Stream
from app.queue import lifecycle
from app.tables import EventType, Run, RunStatus
from tests.app.events.test_blocks import evaluate, ids, read
from tests.app.events.test_feed import collect, following
from tests.conftest import AddRun, AssertProblem, TestClient

NUM_TRIALS, NUM_EPOCHS, EPOCHS_A_COMMIT = 12, 60, 15
NOT_METRICS = tuple(kind for kind in EventType if kind not in (EventType.METRIC, EventType.CHECKPOINT))


def train(database: Database, *run_ids: str, epochs: int = NUM_EPOCHS) -> None:
    """Write the events of these runs as a worker does: started, commits of metrics and a checkpoint, succeeded."""
    with database.writing() as session:
        for run_id in run_ids:
            run = session.get_one(Run, run_id)
            run.status = RunStatus.RUNNING
            journal.record(session, run, EventType.STARTED, status=run.status, epoch=0)
    for first in range(1, epochs + 1, EPOCHS_A_COMMIT):
        evaluate(database, {run_id: range(first, first + EPOCHS_A_COMMIT) for run_id in run_ids})
    with database.writing() as session:
        for run_id in run_ids:
            lifecycle.end(session, session.get_one(Run, run_id), RunStatus.SUCCEEDED)


@pytest.fixture
def sweep(client: TestClient, database: Database) -> tuple[str, list[str]]:
    """Add a sweep that is over, and return its id and its trials'."""
    sweep_id: str = client.post("/sweeps", json={"parameters": {"seed": list(range(4))}}).json()["id"]
    trials = [run["id"] for run in client.get(f"/runs?sweep_id={sweep_id}").json()["data"]]
    train(database, *trials, epochs=2 * EPOCHS_A_COMMIT)
    return sweep_id, trials


def list_filters(sweep_id: str, trials: list[str]) -> list[EventFilter]:
    some, one = tuple(trials[:2]), (trials[0],)
    return [
        EventFilter(types=(EventType.QUEUED,)),
        EventFilter(types=(EventType.METRIC, EventType.SWEEP_CREATED)),
        EventFilter(types=NOT_METRICS, metrics_of=one),
        EventFilter(metrics_of=some),
        EventFilter(types=(EventType.CHECKPOINT,), metrics_of=one),
        EventFilter(some, types=(EventType.CHECKPOINT, EventType.SUCCEEDED)),
        EventFilter(some, metrics_of=one),
        EventFilter(some, sweep_id, (EventType.STARTED,), one),
        EventFilter((trials[3],), types=(EventType.STARTED,), metrics_of=one),
        EventFilter(sweep_id=sweep_id, metrics_of=one),
        EventFilter(types=(EventType.PAUSED,)),
    ]


def test_the_database_and_the_memory_select_the_same_events(
    database: Database, sweep: tuple[str, list[str]], add_run: AddRun
) -> None:
    train(database, add_run(), epochs=EPOCHS_A_COMMIT)
    everything = read(database)
    sizes = []
    for wanted in list_filters(*sweep):
        expected = [event for event in everything if wanted.accepts(event.run_id, event.sweep_id, event.type)]
        assert read(database, wanted) == expected
        sizes.append(len(expected))
    # 5 runs; 4 trials with 30 metrics and 2 checkpoints each, and a run with 15 and 1; 2 events of the sweep.
    assert sizes == [5, 4 * 30 + 15 + 1, 3 * 5 + 2 + 32, 3 * 5 + 2 + 64, 9 + 30, 4 + 2, 6 + 32, 2 + 32, 1, 14 + 32, 0]


def test_an_event_is_of_a_type_that_is_asked_for_or_a_metric_or_checkpoint_of_a_run_that_is_followed(
    client: TestClient, sweep: tuple[str, list[str]]
) -> None:
    _, trials = sweep

    def read_pages(query: str) -> list[tuple[str | None, str]]:
        events = client.get(f"/events?limit=1000&{query}").json()["data"]
        assert ids_of(events) == sorted(set(ids_of(events)))
        return [(event["run_id"], event["type"]) for event in events]

    followed = [(trials[0], "metric")] * 15 + [(trials[0], "checkpoint")]
    assert read_pages(f"type=started&metrics_of={trials[0]}")[4:] == followed * 2
    assert read_pages("type=sweep_created&type=sweep_succeeded") == [(None, "sweep_created"), (None, "sweep_succeeded")]
    others = [kind for _, kind in read_pages(f"metrics_of={trials[0]}") if kind not in ("metric", "checkpoint")]
    assert others == ["sweep_created", *["queued"] * 4, *["started"] * 4, *["succeeded"] * 4, "sweep_succeeded"]


def ids_of(events: list[dict[str, int]]) -> list[int]:
    return [event["id"] for event in events]


def test_a_filtered_stream_goes_on_within_blocks_and_sends_nothing_twice(
    database: Database, sweep: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PAGE", 7)
    wanted = EventFilter(types=NOT_METRICS, metrics_of=(sweep[1][1],))
    expected = ids(read(database, wanted))
    newest = read(database)[-1].id

    async def main() -> None:
        async with following(database) as feed:
            for after in range(0, newest, 7):
                rest = [each for each in expected if each > after]
                assert await collect(feed, len(rest), after=after, wanted=wanted) == rest

    asyncio.run(main())


def test_pages_of_a_filter_lead_through_all_of_it(client: TestClient, sweep: tuple[str, list[str]]) -> None:
    query = f"type=succeeded&type=sweep_succeeded&metrics_of={sweep[1][2]}"
    expected = ids_of(client.get(f"/events?limit=1000&{query}").json()["data"])
    seen: list[int] = []
    after = "0"
    while after:
        page = client.get(f"/events?limit=5&after={after}&{query}").json()
        seen += ids_of(page["data"])
        after = page["next"]
    assert seen == expected
    assert len(seen) == 4 + 1 + 32


async def read_bytes(stream: Stream) -> bytes:
    stream.departure.leave()  # the stream ends as soon as it has sent what there is
    return b"".join([part async for part in stream.events()])


def test_a_sweep_sends_a_page_that_follows_one_trial_a_small_part_of_its_events(
    client: TestClient, database: Database
) -> None:
    """The page's filter: no metrics and checkpoints but those of the run that it shows."""

    async def main() -> None:
        async with following(database) as feed, feed.join(None) as position:
            sweep_id = await asyncio.to_thread(submit)
            trials = [run["id"] for run in client.get(f"/runs?sweep_id={sweep_id}").json()["data"]]
            await asyncio.to_thread(train, database, *trials)
            await feed._refresh()
            everything = Stream(feed, EventFilter(), position)
            wanted = EventFilter(types=NOT_METRICS, metrics_of=(trials[0],))
            live = [await read_bytes(each) for each in (everything, replace(everything, wanted=wanted))]
            feed._floor = feed.position  # what follows is read from the database
            assert [await read_bytes(Stream(feed, each, position)) for each in (EventFilter(), wanted)] == live
        a_run = NUM_EPOCHS + NUM_EPOCHS // EPOCHS_A_COMMIT
        assert [count_events(each) for each in live] == [NUM_TRIALS * (3 + a_run) + 2, NUM_TRIALS * 3 + 2 + a_run]
        assert [len(each) < NUM_TRIALS * 45_000 for each in live] == [True, True]
        assert len(live[1]) < 15_000 * 3 + NUM_TRIALS * 3 * 400  # 79 MB and 2 MB for 2,000 trials

    def submit() -> str:
        sweep_id: str = client.post("/sweeps", json={"parameters": {"seed": list(range(NUM_TRIALS))}}).json()["id"]
        return sweep_id

    asyncio.run(main())


def count_events(text: bytes) -> int:
    return len(re.findall(b"^event: ", text, re.MULTILINE))


@pytest.mark.parametrize("is_over", [True, False])
def test_a_runs_stream_ends_with_the_run_even_if_it_does_not_ask_for_that_event(
    database: Database, add_run: AddRun, is_over: bool
) -> None:
    run_id = add_run()

    async def main() -> None:
        async with following(database) as feed:
            if is_over:
                train(database, run_id)
            async with feed.join(0) as position:
                wanted = EventFilter((run_id,), types=(EventType.CHECKPOINT,))
                stream = Stream(feed, wanted, position, end=read(database)[-1].id if is_over else None)
                sending = asyncio.create_task(read_types(stream))
                if not is_over:
                    await asyncio.to_thread(train, database, run_id)
                assert await asyncio.wait_for(sending, 60) == ["checkpoint"] * (NUM_EPOCHS // EPOCHS_A_COMMIT)

    async def read_types(stream: Stream) -> list[str]:
        text = b"".join([part async for part in stream.events_of_run()]).decode()
        return re.findall("^event: (.*)$", text, re.MULTILINE)

    asyncio.run(main())


def test_a_runs_own_events_are_chosen_by_type(client: TestClient, database: Database, add_run: AddRun) -> None:
    run_id, _ = add_run(), add_run()
    train(database, run_id)
    of_run = client.get(f"/runs/{run_id}/events?type=queued&type=succeeded").json()["data"]
    assert [(event["run_id"], event["type"]) for event in of_run] == [(run_id, "queued"), (run_id, "succeeded")]
    text = client.get(f"/runs/{run_id}/events/stream?type=started").text
    assert re.findall("^event: (.*)$", text, re.MULTILINE) == ["started"]


@pytest.mark.parametrize("path", ["/events", "/events/stream"])
def test_wrong_filters_are_refused(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem, path: str
) -> None:
    problem = assert_problem(client.get(f"{path}?type=metric&type=nonsense"), 422, "invalid-input")
    assert [error["pointer"] for error in problem["errors"]] == ["?type/1"]
    assert '"sweep_created"' in problem["detail"]
    many = "&".join(["metrics_of=x"] * 65)
    assert_problem(client.get(f"{path}?{many}"), 422, "invalid-input")
    known = f"metrics_of={add_run()}"
    assert client.head(f"{path}?{known}").status_code == 200
    assert "nope" in assert_problem(client.get(f"{path}?{known}&run_id=nope"), 404, "run-not-found")["detail"]


def test_a_run_that_is_gone_does_not_end_what_follows_others_too(client: TestClient) -> None:
    assert client.get("/events?type=started&metrics_of=gone").json()["data"] == []


def test_a_run_is_followed_by_its_own_stream_alone(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    run_id = add_run()
    assert_problem(client.get(f"/runs/{run_id}/events?metrics_of={run_id}"), 422, "invalid-input")
