"""The worker's lease on its runs, and what the worker does while the database fails."""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.runs import service
from app.settings import Settings
from app.tables import RunStatus
from app.worker_registry.repository import WorkerInfo
from tests.conftest import AddRun, get_run
from workers.lease import Lease
from workers.shared_clocks import Pulse

INFO = WorkerInfo("w", "host", 1, "cpu", {})


@pytest.fixture
def pulse() -> Pulse:
    return Pulse(multiprocessing.get_context("spawn"))


@pytest.fixture
def lease(database: Database, settings: Settings, pulse: Pulse) -> Lease:
    often = settings.model_copy(update={"heartbeat_seconds": 1e-9, "max_stack_bytes": 0})
    return Lease(database, often, "w", pulse)


class Broken(Exception):
    pass


def break_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OperationalError("BEGIN", {}, Broken("out of order"))

    monkeypatch.setattr(database, "writing", fail)


def test_the_work_has_to_be_over_before_the_lease_is(lease: Lease, pulse: Pulse, add_run: AddRun) -> None:
    assert pulse.lease_until == math.inf
    add_run()
    before = time.monotonic()
    ((claim,),) = lease.claim_stacks(["auto"])
    assert before + 5 <= pulse.lease_until <= time.monotonic() + 5
    lease.remove(claim)
    assert pulse.lease_until == math.inf


def test_a_heartbeat_renews_and_tells_what_is_to_be_let_go(
    lease: Lease, pulse: Pulse, database: Database, add_run: AddRun
) -> None:
    run_id = add_run()
    ((claim,),) = lease.claim_stacks(["auto"])
    until = pulse.lease_until
    assert lease.beat_if_due(INFO) == set()
    assert pulse.lease_until > until
    with database.writing() as session:
        service.pause(session, run_id)
    assert lease.beat_if_due(INFO) == {claim}


def test_a_claim_that_another_worker_has_is_to_be_let_go(lease: Lease, add_run: AddRun) -> None:
    add_run()
    ((claim,),) = lease.claim_stacks(["auto"])
    lease.claims = {claim, replace(claim, claim_number=0)}
    assert lease.beat_if_due(INFO) == {replace(claim, claim_number=0)}


def test_a_renewal_that_fails_prolongs_nothing(
    lease: Lease, pulse: Pulse, database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run()
    lease.claim_stacks(["auto"])
    until = pulse.lease_until
    break_database(database, monkeypatch)
    assert lease.beat_if_due(INFO) == set()
    assert pulse.lease_until == until


def test_a_claim_that_was_not_committed_is_none(
    lease: Lease, pulse: Pulse, database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk has this effect: all statements succeed and the commit fails."""
    from sqlalchemy.orm import Session

    run_id = add_run()

    def fail(_self: Session) -> None:
        raise OperationalError("COMMIT", {}, Broken("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr("sqlalchemy.orm.SessionTransaction.commit", fail)
        assert lease.claim_stacks(["auto"]) == []
    assert (lease.claims, pulse.lease_until) == (set(), math.inf)
    assert get_run(database, run_id).status is RunStatus.QUEUED


def test_a_failing_database_is_reported_once_and_so_is_its_return(
    lease: Lease, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch:
        break_database(database, patch)
        for _ in range(3):
            lease.beat_if_due(INFO)
    for _ in range(3):
        lease.beat_if_due(INFO)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert "out of order" in caplog.messages[0]


@pytest.mark.parametrize("how", ["release_all", "report_crash"])
def test_what_is_given_back_is_queued_and_held_no_longer(
    lease: Lease, pulse: Pulse, database: Database, add_run: AddRun, how: str
) -> None:
    run_id = add_run()
    lease.claim_stacks(["auto"])
    getattr(lease, how)()
    run = get_run(database, run_id)
    assert (run.status, run.crashes_without_progress) == (RunStatus.QUEUED, int(how == "report_crash"))
    assert (lease.claims, pulse.lease_until) == (set(), math.inf)


def test_what_others_have_taken_over_is_not_given_back(lease: Lease, database: Database, add_run: AddRun) -> None:
    run_id = add_run()
    ((claim,),) = lease.claim_stacks(["auto"])
    lease.claims = {replace(claim, claim_number=claim.claim_number - 1)}
    lease.report_crash()
    assert get_run(database, run_id).status is RunStatus.RUNNING
