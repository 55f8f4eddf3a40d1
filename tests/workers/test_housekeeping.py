"""Housekeeping: which data is deleted after its retention time, and which data never is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import literal, select, update

from app.database import Database, utc_now
from app.settings import Settings
from app.tables import Checkpoint, Event, Run, RunStatus, Worker
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo
from tests.app.events.test_events import record
from tests.conftest import AddRun
from workers import housekeeping
from workers.housekeeping import Housekeeping

DAY = 86_400


def add_finished(database: Database, add_run: AddRun, days_ago: float | None) -> str:
    """Add a run with both checkpoints; it is unfinished if `days_ago` is None."""
    run_id = add_run(status=RunStatus.SUCCEEDED if days_ago is not None else RunStatus.PAUSED)
    with database.writing() as session:
        if days_ago is not None:
            session.get_one(Run, run_id).finished_at = utc_now() - timedelta(days=days_ago)
        for role in ("best", "last"):
            session.add(Checkpoint(run_id=run_id, role=role, epoch=1, blob=b"x", sha256="", size_bytes=1))
    return run_id


def clean(database: Database, settings: Settings, times: int = 1) -> None:
    """Run housekeeping at two moments an hour apart, since data is deleted only if it was due an hour ago too."""
    now = 0.0
    keeping = Housekeeping(database, settings, lambda: now)
    for now in (0.0, housekeeping.DUE_TWICE_SECONDS):  # noqa: B007
        for _ in range(times):
            keeping.clean_if_due()


def roles(database: Database, run_id: str) -> list[str]:
    with database.reading() as session:
        of_run = select(Checkpoint.role).where(Checkpoint.run_id == run_id)
        return list(session.scalars(of_run.order_by(Checkpoint.role)))


def test_last_checkpoints_of_long_finished_runs_go_and_best_ones_stay(
    database: Database, settings: Settings, add_run: AddRun
) -> None:
    old, young, unfinished = (add_finished(database, add_run, days) for days in (8, 6, None))
    clean(database, settings)
    assert roles(database, old) == ["best"]
    assert roles(database, young) == roles(database, unfinished) == ["best", "last"]


def test_old_events_go_and_young_ones_stay(database: Database, settings: Settings) -> None:
    record(database, *["run"] * 3)
    old = utc_now() - timedelta(days=31)
    with database.writing() as session:
        session.execute(update(Event).where(Event.id <= 2).values(created_at=old))
    clean(database, settings)
    with database.reading() as session:
        assert session.scalars(select(Event.id)).all() == [3]


def test_a_retention_of_nothing_deletes_at_once(database: Database, settings: Settings, add_run: AddRun) -> None:
    run_id = add_finished(database, add_run, 0)
    record(database, "run")
    at_once = {"last_checkpoint_retention_seconds": 0.0, "event_retention_seconds": 0.0}
    clean(database, settings.model_copy(update=at_once))
    assert roles(database, run_id) == ["best"]
    with database.reading() as session:
        assert session.scalars(select(Event.id)).all() == []


def test_much_is_deleted_in_short_transactions_one_a_call(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "ROWS_PER_TRANSACTION", 4)
    record(database, *["run"] * 10)
    forget = settings.model_copy(update={"event_retention_seconds": 0.0})
    keeping = Housekeeping(database, forget)
    left = []
    for _ in range(4):
        keeping.clean_if_due()
        with database.reading() as session:
            left.append(len(session.scalars(select(Event.id)).all()))
    assert left == [6, 2, 0, 0]
    record(database, "run")
    keeping.clean_if_due()  # housekeeping is not due again yet
    with database.reading() as session:
        assert len(session.scalars(select(Event.id)).all()) == 1


@pytest.mark.parametrize("minutes_ahead", [1, 59])
def test_a_clock_that_was_ahead_for_a_while_deletes_nothing(
    database: Database, settings: Settings, add_run: AddRun, monkeypatch: pytest.MonkeyPatch, minutes_ahead: int
) -> None:
    """That holds also if the clock is ahead again later, or if a worker starts in the meantime."""
    run_id = add_finished(database, add_run, 0)
    record(database, "run")
    with database.writing() as session:
        registry.beat(session, WorkerInfo("w", "host", 1))
    minute, ahead, real = 0, False, utc_now().timestamp()

    def wall() -> float:
        return real + 60 * minute + (60 * DAY if ahead else 0)

    monkeypatch.setattr("time.time", wall)
    monkeypatch.setattr(housekeeping, "database_now", lambda: literal(wall()))
    keeping = Housekeeping(database, settings, lambda: 60.0 * minute)
    for minute in range(240):
        ahead = minute % 61 < minutes_ahead
        keeping.clean_if_due()
        with database.writing() as session:
            assert session.scalars(update(Worker).values(heartbeat_at=wall()).returning(Worker.name)).all() == ["w"]
    assert roles(database, run_id) == ["best", "last"]
    with database.reading() as session:
        assert len(session.scalars(select(Event.id)).all()) == 1
