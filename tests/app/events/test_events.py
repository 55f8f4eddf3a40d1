"""Events: their ids follow the commit order, and clients read them page by page."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.exc import StatementError

from app.database import Database, before_commit
from app.events import journal, repository
from app.events.repository import EventFilter
from app.tables import EventType
from tests.conftest import AddRun, AssertProblem, TestClient

EVERYTHING = EventFilter()


def record(
    database: Database, *run_ids: str, sweep_id: str | None = None, seconds: float = 0.0, epoch: Any = 1
) -> None:
    """Write an event of each run in one transaction that lasts at least `seconds`."""
    with database.writing() as session:
        for run_id in run_ids:
            journal.record_for(session, EventType.METRIC, run_id=run_id, sweep_id=sweep_id, data={"epoch": epoch})
        before_commit(session, lambda _session: time.sleep(seconds))  # the ids are already assigned at this point


def read_ids(database: Database, after: int = 0) -> list[int]:
    with database.reading() as session:
        return [event.id for event in repository.list_events(session, EVERYTHING, after=after, limit=1000)]


def test_a_reader_that_asks_for_what_follows_misses_nothing_that_others_commit(database: Database) -> None:
    """Transactions of different lengths run at once; an event that is committed later also has a higher id."""
    done = threading.Event()
    seen: list[int] = []

    def write(number: int) -> None:
        moments = random.Random(number)
        for _ in range(15):
            record(database, *["run"] * moments.randint(1, 3), seconds=moments.uniform(0, 0.004))

    def follow() -> None:
        while not done.is_set():
            seen.extend(read_ids(database, after=seen[-1] if seen else 0))

    with ThreadPoolExecutor(5) as pool:
        following = pool.submit(follow)
        list(pool.map(write, range(4)))
        done.set()
        following.result()
    seen += read_ids(database, after=seen[-1])
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 4 * 15


def test_what_is_rolled_back_leaves_no_event_and_no_gap(database: Database) -> None:
    record(database, "a")
    with pytest.raises((StatementError, TypeError)):
        record(database, "b", epoch=object())  # not JSON: the insert fails after the counter was advanced
    record(database, "c")
    assert read_ids(database) == [1, 2]


def test_ids_are_not_used_again_when_events_are_deleted(database: Database) -> None:
    record(database, "a", "b")
    with database.writing() as session:
        repository.delete_of_run(session, "b", 10)
    record(database, "c")
    assert read_ids(database) == [1, 3]


def test_pages_lead_through_all_events(client: TestClient, database: Database) -> None:
    record(database, *["run"] * 7)
    pages: list[Sequence[int]] = []
    after = "0"
    while after:
        page = client.get("/events", params={"limit": 3, "after": after}).json()
        pages.append([event["id"] for event in page["data"]])
        assert page["has_more"] == (page["next"] is not None)
        after = page["next"]
    assert pages == [[1, 2, 3], [4, 5, 6], [7]]


def test_events_are_chosen_by_runs_and_by_sweep(client: TestClient, database: Database) -> None:
    record(database, "a", "b", "c")
    record(database, "a", "d", sweep_id="s")

    def ids(**params: object) -> list[int]:
        return [event["id"] for event in client.get("/events", params=params).json()["data"]]  # type: ignore[arg-type]

    assert ids() == [1, 2, 3, 4, 5]
    assert ids(run_id=["a", "c"]) == [1, 3, 4]
    assert ids(sweep_id="s") == [4, 5]
    assert ids(run_id="a", sweep_id="s") == [4]
    assert ids(run_id="a", after=1) == [4]


@pytest.mark.parametrize("path", ["/events", "/events/stream"])
def test_an_id_that_neither_a_row_nor_an_event_has_is_refused(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem, path: str
) -> None:
    run_id = add_run()
    for query, slug in (("run_id=nope", "run"), (f"run_id={run_id}&run_id=nope", "run"), ("sweep_id=nope", "sweep")):
        for method in ("GET", "HEAD"):
            response = client.request(method, f"{path}?{query}")
            assert response.status_code == 404
        assert "nope" in assert_problem(client.get(f"{path}?{query}"), 404, f"{slug}-not-found")["detail"]
    assert_problem(client.get(f"{path}?sweep_id={run_id}"), 404, "sweep-not-found")


def test_ids_of_what_is_deleted_are_known_as_long_as_an_event_has_them(client: TestClient) -> None:
    run_id = client.post("/runs", json={}).json()["id"]
    sweep_id = client.post("/sweeps", json={"parameters": {"seed": [1, 2]}}).json()["id"]
    assert client.get(f"/events?sweep_id={sweep_id}&limit=1").json()["has_more"]
    for path in (f"/runs/{run_id}", f"/sweeps/{sweep_id}"):
        client.post(f"{path}/cancel")
        assert client.delete(path).status_code == 204
    of_sweep = ["deleted", "deleted", "sweep_deleted"]
    for query, types in ((f"run_id={run_id}", ["deleted"]), (f"sweep_id={sweep_id}", of_sweep)):
        events = client.get(f"/events?{query}").json()["data"]
        assert [event["type"] for event in events] == types
        assert client.head(f"/events/stream?{query}").status_code == 200


def test_a_runs_events_are_its_own(client: TestClient, add_run: AddRun) -> None:
    first, second = add_run(), add_run()
    client.post(f"/runs/{first}/cancel")
    (queued,) = client.get(f"/runs/{second}/events").json()["data"]
    assert queued["run_id"] == second
    assert (queued["type"], queued["data"]) == ("queued", {"status": "queued", "epoch": 0})
    page = client.get(f"/runs/{first}/events", params={"limit": 1}).json()
    assert (len(page["data"]), page["next"]) == (1, "1")


@pytest.mark.parametrize("path", ["/runs/nope/events", "/runs/nope/events/stream"])
def test_an_unknown_run_has_no_events(client: TestClient, assert_problem: AssertProblem, path: str) -> None:
    assert_problem(client.get(path), 404, "run-not-found")


@pytest.mark.parametrize("path", ["/events", "/events/stream"])
@pytest.mark.parametrize("after", ["-1", "x", str(2**63)])
def test_a_bad_cursor_is_refused(client: TestClient, assert_problem: AssertProblem, path: str, after: str) -> None:
    assert_problem(client.get(path, params={"after": after}), 422, "invalid-input")


def test_the_newest_id_is_the_end_of_the_list_of_all_events(client: TestClient, database: Database) -> None:
    assert client.get("/events/latest").json() == {"id": 0}
    record(database, "a", "b")
    assert client.get("/events/latest").json() == {"id": 2}
    assert client.head("/events/latest").status_code == 200
    with database.writing() as session:
        repository.delete_of_run(session, "b", 10)
    assert client.get("/events/latest").json() == {"id": 2}


def test_what_follows_the_newest_id_is_what_no_list_of_before_shows(client: TestClient) -> None:
    """A page reads the newest id, then a list, then what follows the id, while others submit and cancel."""
    done = threading.Event()

    def submit() -> None:
        while not done.is_set():
            run_id = client.post("/runs", json={}).json()["id"]
            client.post(f"/runs/{run_id}/cancel")

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(submit)
        pages: list[tuple[int, dict[str, str]]] = []
        while not writing.done() and (len(pages) < 10 or pages[-1][0] == 0):
            latest = client.get("/events/latest").json()["id"]
            pages.append((latest, {run["id"]: run["status"] for run in client.get("/runs?limit=200").json()["data"]}))
        done.set()
        writing.result()
    final = {run["id"]: run["status"] for run in client.get("/runs?limit=200").json()["data"]}
    for latest, shown in pages:
        for event in client.get(f"/events?after={latest}&limit=1000").json()["data"]:
            shown[event["run_id"]] = event["data"]["status"]
        assert shown == final
    assert pages[-1][0] > 0


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_page_has_a_size(client: TestClient, assert_problem: AssertProblem, limit: int) -> None:
    assert_problem(client.get("/events", params={"limit": limit}), 422, "invalid-input")


def test_a_bad_last_event_id_is_refused(client: TestClient, assert_problem: AssertProblem) -> None:
    problem = assert_problem(client.get("/events/stream", headers={"Last-Event-ID": "x"}), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == "header: last-event-id"
