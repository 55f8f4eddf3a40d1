"""Events of sweeps: each is written once, in the transaction that it tells of."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, text

from alembic import command
from app.database import Database, migration_config
from app.queue import lifecycle
from app.runs import repository
from app.tables import Event, Run, RunStatus
from tests.app.events.test_events import record
from tests.app.sweeps.test_sweeps import finish, runs_of, submit
from tests.conftest import AddRun, TestClient

TWO = {"parameters": {"seed": [1, 2]}}


def own_events(client: TestClient, sweep_id: str) -> list[tuple[str, dict[str, Any]]]:
    events = client.get(f"/events?sweep_id={sweep_id}&limit=1000").json()["data"]
    return [(event["type"], event["data"]) for event in events if event["run_id"] is None]


def types_of(client: TestClient, sweep_id: str) -> list[str]:
    return [kind for kind, _ in own_events(client, sweep_id)]


def end(database: Database, run_id: str, status: RunStatus) -> None:
    with database.writing() as session:
        lifecycle.end(session, session.get_one(Run, run_id), status)


def over(status: str, **counts: int) -> tuple[str, dict[str, Any]]:
    counts = {"succeeded": 0, "failed": 0, "cancelled": 0, **counts}
    return f"sweep_{status}", {"status": status, "trials": sum(counts.values()), **counts}


def test_a_sweep_is_created_before_its_trials_and_over_after_the_last_one(
    client: TestClient, database: Database
) -> None:
    sweep_id = submit(client, TWO)["id"]
    for run in runs_of(database, sweep_id):
        assert types_of(client, sweep_id) == ["sweep_created"]
        finish(database, run.id, val_accuracy=0.9)
    events = client.get(f"/events?sweep_id={sweep_id}").json()["data"]
    kinds = [event["type"] for event in events if event["type"] != "promoted"]
    assert kinds == ["sweep_created", "queued", "queued", "succeeded", "succeeded", "sweep_succeeded"]
    created, ended = own_events(client, sweep_id)
    assert created == ("sweep_created", {"status": "queued", "trials": 2})
    assert ended == over("succeeded", succeeded=2)
    assert {event["sweep_id"] for event in events} == {sweep_id}


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((RunStatus.FAILED, RunStatus.FAILED), over("failed", failed=2)),
        ((RunStatus.SUCCEEDED, RunStatus.FAILED), over("succeeded", succeeded=1, failed=1)),
        ((RunStatus.CANCELLED, RunStatus.FAILED), over("cancelled", cancelled=1, failed=1)),
        ((RunStatus.CANCELLED, RunStatus.SUCCEEDED), over("succeeded", succeeded=1, cancelled=1)),
    ],
)
def test_the_event_at_the_end_tells_the_state_that_the_sweep_shows(
    client: TestClient,
    database: Database,
    ends: tuple[RunStatus, RunStatus],
    expected: tuple[str, dict[str, Any]],
) -> None:
    sweep_id = submit(client, TWO)["id"]
    for run, status in zip(runs_of(database, sweep_id), ends, strict=True):
        end(database, run.id, status)
    assert own_events(client, sweep_id)[1:] == [expected]
    assert client.get(f"/sweeps/{sweep_id}").json()["status"] == expected[1]["status"]


def test_a_cancelled_sweep_is_over_when_its_last_trial_has_stopped(client: TestClient, database: Database) -> None:
    sweep_id = submit(client, TWO)["id"]
    running, _ = runs_of(database, sweep_id)
    with database.writing() as session:
        session.get_one(Run, running.id).status = RunStatus.RUNNING
    for _ in range(2):
        client.post(f"/sweeps/{sweep_id}/cancel")
        assert types_of(client, sweep_id) == ["sweep_created"]
    with database.writing() as session:
        lifecycle.release(session, session.get_one(Run, running.id))
    assert own_events(client, sweep_id)[1:] == [over("cancelled", cancelled=2)]
    client.post(f"/sweeps/{sweep_id}/cancel")
    assert types_of(client, sweep_id) == ["sweep_created", "sweep_cancelled"]


def test_a_sweep_that_waits_is_cancelled_in_one_transaction(client: TestClient) -> None:
    sweep_id = submit(client, TWO)["id"]
    client.post(f"/sweeps/{sweep_id}/cancel")
    kinds = [event["type"] for event in client.get(f"/events?sweep_id={sweep_id}").json()["data"]]
    assert kinds == ["sweep_created", "queued", "queued", "cancelled", "cancelled", "sweep_cancelled"]


def test_cross_validation_is_over_after_its_final_run(client: TestClient, database: Database) -> None:
    document = {"points": [{"seed": 1}], "search": {"kind": "list"}, "cross_validation": {"folds": 2}}
    sweep_id = submit(client, document)["id"]
    for run in runs_of(database, sweep_id):
        finish(database, run.id, val_accuracy=0.9)
    assert types_of(client, sweep_id) == ["sweep_created"]
    (final,) = [run for run in runs_of(database, sweep_id) if not run.status.is_finished()]
    finish(database, final.id, val_accuracy=0.9)
    assert own_events(client, sweep_id)[1:] == [over("succeeded", succeeded=3)]


def test_a_deleted_sweep_leaves_the_event_that_tells_of_it(client: TestClient, database: Database) -> None:
    sweep_id = submit(client, TWO)["id"]
    client.post(f"/sweeps/{sweep_id}/cancel")
    client.delete(f"/sweeps/{sweep_id}")
    kinds = [event["type"] for event in client.get(f"/events?sweep_id={sweep_id}").json()["data"]]
    assert kinds == ["deleted", "deleted", "sweep_deleted"]
    is_own = (Event.sweep_id == sweep_id, Event.run_id.is_(None))
    counting = select(func.count()).select_from(Event).where(*is_own)
    with database.writing() as session:
        assert session.scalar(counting) == 3
        while repository.purge_deleted(session, 100):
            pass
        assert session.scalar(counting) == 1


def test_a_deleted_sweep_shows_nothing_else_while_it_is_purged(client: TestClient, database: Database) -> None:
    sweep_id = submit(client, TWO)["id"]
    client.post(f"/sweeps/{sweep_id}/cancel")
    client.delete(f"/sweeps/{sweep_id}")
    is_there = True
    while is_there:
        assert types_of(client, sweep_id) == ["sweep_deleted"]
        with database.writing() as session:
            is_there = repository.purge_deleted(session, 1) > 0


def test_two_workers_that_end_the_last_trials_at_once_write_one_event(client: TestClient, database: Database) -> None:
    sweep_ids = [submit(client, TWO)["id"] for _ in range(5)]
    ended = threading.Barrier(2)
    is_postgres = database.engine.dialect.name == "postgresql"  # SQLite's writers take turns from their start

    def end_last(run_id: str) -> None:
        with database.writing() as session:
            lifecycle.end(session, session.get_one(Run, run_id), RunStatus.SUCCEEDED)
            session.flush()
            if is_postgres:
                ended.wait(60)  # neither transaction sees the other's end yet

    with ThreadPoolExecutor(2) as pool:
        for sweep_id in sweep_ids:
            list(pool.map(end_last, [run.id for run in runs_of(database, sweep_id)]))
    for sweep_id in sweep_ids:
        assert own_events(client, sweep_id)[1:] == [over("succeeded", succeeded=2)]


def test_the_event_is_written_even_if_other_events_came_first(client: TestClient, database: Database) -> None:
    """A commit of a worker records metrics before it ends runs, and so do the ends of several runs at once."""
    sweep_id = submit(client, TWO)["id"]
    with database.writing() as session:
        for run in runs_of(database, sweep_id):
            lifecycle.pause(session, session.get_one(Run, run.id))
            lifecycle.end(session, session.get_one(Run, run.id), RunStatus.FAILED)
    events = client.get(f"/events?sweep_id={sweep_id}").json()["data"]
    assert [event["type"] for event in events][3:] == ["paused", "failed", "paused", "failed", "sweep_failed"]
    assert [event["id"] for event in events] == list(range(1, 9))


def test_a_run_without_a_sweep_ends_without_such_an_event(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    end(database, add_run(), RunStatus.FAILED)
    assert [event["type"] for event in client.get("/events").json()["data"]] == ["queued", "failed"]


def test_events_of_before_stay_readable_and_a_downgrade_drops_those_of_sweeps(
    client: TestClient, database: Database
) -> None:
    record(database, "a", "b", sweep_id="s")
    before = client.get("/events").json()["data"]
    sweep_id = submit(client, TWO)["id"]
    config = migration_config(database)
    command.downgrade(config, "0008")
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM events")) == 2 + 2
    command.upgrade(config, "head")
    assert client.get("/events").json()["data"][:2] == before
    assert [event["id"] for event in client.get("/events").json()["data"]] == [1, 2, 4, 5]
    client.post(f"/sweeps/{sweep_id}/cancel")
    assert types_of(client, sweep_id) == ["sweep_cancelled"]
