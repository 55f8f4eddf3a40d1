"""Wall clocks that are set ahead and back: which leases and workers expire then, and which do not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.clocks import SteadyClock
from app.database import Database
from app.queue import claiming
from app.queue.lease_watch import LeaseWatch
from app.runs import service
from app.tables import Run, RunStatus
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo, WorkerWatch
from tests.conftest import AddRun, claim_stack, get_run

LEASE_SECONDS = 6.0
DAY = 86_400.0
START = 1_800_000_000.0


class Clocks:
    """A wall clock that can be set, and a monotonic clock that shows the real time elapsed."""

    def __init__(self) -> None:
        self.wall, self.monotonic = START, 500.0

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def read_monotonic(self) -> float:
        return self.monotonic


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    """Make the database's clock the wall clock of `Clocks`, for all workers."""
    from sqlalchemy.ext.compiler import compiles

    from app import database as module

    clocks = Clocks()

    class set_clock(module.database_now):  # noqa: N801
        inherit_cache = False

    @compiles(set_clock)
    def _compile(_element: set_clock, _compiler: Any, **_: Any) -> str:
        return f"CAST({clocks.wall!r} AS DOUBLE PRECISION)"

    for place in ("app.queue.claiming", "app.queue.lease_watch", "app.worker_registry.repository"):
        monkeypatch.setattr(f"{place}.database_now", set_clock)
    return clocks


class Observer:
    """A worker that polls for work every quarter of a second."""

    def __init__(self, database: Database, clocks: Clocks) -> None:
        self.database, self.clocks = database, clocks
        self.watch = LeaseWatch(LEASE_SECONDS, clocks.read_monotonic)

    def claim(self) -> list[claiming.Claim]:
        with self.database.reading() as session:
            if not claiming.has_work(session, ["auto"], self.watch):
                return []
        with self.database.writing() as session:
            return claim_stack(
                session,
                worker="observer",
                devices=["auto"],
                lease_seconds=LEASE_SECONDS,
                max_stack_bytes=0,
                watch=self.watch,
            )

    def seconds_until_claim(self, at_most: float) -> float | None:
        """Return the seconds until the observer claims a run; None if they are more than `at_most`."""
        for number in range(int(4 * at_most)):
            if self.claim():
                return number / 4
            self.clocks.pass_seconds(0.25)
        return None


def claim_and_die(database: Database, lease_seconds: float = LEASE_SECONDS) -> claiming.Claim:
    with database.writing() as session:
        (claim,) = claim_stack(session, worker="gone", devices=["auto"], lease_seconds=lease_seconds, max_stack_bytes=0)
    return claim


def test_a_lease_from_before_the_clock_was_set_back_is_taken_over(
    database: Database, add_run: AddRun, clocks: Clocks
) -> None:
    run_id = add_run()
    claim_and_die(database)
    clocks.wall -= 5 * 3600
    assert Observer(database, clocks).seconds_until_claim(10) == LEASE_SECONDS
    run = get_run(database, run_id)
    assert (run.worker, run.claim_number, run.crashes_without_progress) == ("observer", 2, 1)


def test_a_run_that_is_to_be_cancelled_ends_though_the_clock_was_set_back(
    database: Database, add_run: AddRun, clocks: Clocks
) -> None:
    run_id = add_run()
    claim_and_die(database)
    clocks.wall -= 5 * 3600
    with database.writing() as session:
        service.cancel(session, run_id)
    assert Observer(database, clocks).seconds_until_claim(10) is None
    assert get_run(database, run_id).status is RunStatus.CANCELLED
    with database.writing() as session:
        service.delete(session, run_id)


def test_a_long_lease_of_a_worker_with_other_settings_is_left_to_it(
    database: Database, add_run: AddRun, clocks: Clocks
) -> None:
    add_run()
    claim_and_die(database, lease_seconds=60)
    assert Observer(database, clocks).seconds_until_claim(100) == 60.25


@pytest.mark.parametrize("jump", [60 * DAY, 10.0, -5 * 3600.0])
def test_a_renewed_claim_is_never_taken_over_whatever_the_clock_does(
    database: Database, add_run: AddRun, clocks: Clocks, jump: float
) -> None:
    add_run()
    observer = Observer(database, clocks)
    assert observer.claim() != []
    claim, other = claiming.Claim(get_only_run(database), 1), Observer(database, clocks)
    for turn in range(120):
        if turn in (20, 70):
            clocks.wall += jump if turn == 20 else -jump
        assert other.claim() == []
        clocks.pass_seconds(0.25)
        if turn % 2:
            with database.writing() as session:
                assert claiming.renew(session, [claim], LEASE_SECONDS) == {claim: False}


def test_a_worker_that_dies_after_a_jump_ahead_is_noticed(database: Database, add_run: AddRun, clocks: Clocks) -> None:
    add_run()
    observer = Observer(database, clocks)
    assert observer.claim() != []
    other = Observer(database, clocks)
    assert other.claim() == []
    clocks.wall += 60 * DAY
    assert other.seconds_until_claim(20) == LEASE_SECONDS + 0.25


def get_only_run(database: Database) -> str:
    with database.reading() as session:
        return session.scalars(select(Run.id)).one()


@pytest.mark.parametrize("jump", [60 * DAY, -5 * 3600.0])
def test_which_workers_are_alive_does_not_depend_on_jumps(database: Database, clocks: Clocks, jump: float) -> None:
    def alive() -> list[str]:
        with database.reading() as session:
            return [worker.name for worker, _ in watch.list_alive(session)]

    def beat(name: str) -> None:
        with database.writing() as session:
            registry.beat(session, WorkerInfo(name, "host", 1))

    watch = WorkerWatch(LEASE_SECONDS, clocks.read_monotonic)
    for name in ("dead", "living"):
        beat(name)
    assert alive() == ["dead", "living"]
    clocks.pass_seconds(0.5)
    clocks.wall += jump
    assert alive() == ["dead", "living"]
    for _ in range(int(2 * LEASE_SECONDS) + 2):
        clocks.pass_seconds(0.5)
        assert "living" in alive()
        beat("living")
    assert alive() == ["living"]


def test_a_steady_clock_believes_in_a_jump_ahead_when_it_has_lasted() -> None:
    clocks = Clocks()
    steady = SteadyClock(3600, monotonic=clocks.read_monotonic)
    ahead = []
    for minute in range(240):
        if minute in (5, 100):
            clocks.wall += DAY
        if minute == 6:
            clocks.wall -= DAY
        ahead.append(steady.now(clocks.wall) - (START + 60 * minute) >= DAY)
        clocks.pass_seconds(60)
    assert ahead.index(True) >= 160  # at least an hour after minute 100, whose jump lasts
    assert all(ahead[220:])
