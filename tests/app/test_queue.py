"""The queue: who trains what, and what happens to a run whose worker is gone."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.database import Database
from app.runs import queue
from app.runs.config import RunConfig
from app.runs.queue import Claim, StaleClaim
from app.tables import Run, RunStatus


def _add(database: Database, *, priority: int = 0, status: RunStatus = RunStatus.QUEUED) -> str:
    config = RunConfig()
    with database.writing() as session:
        run = Run(
            model_kind="mlp",
            config=config.model_dump(mode="json"),
            device="auto",
            seed=0,
            epochs=config.epochs,
            priority=priority,
            status=status,
        )
        session.add(run)
        session.flush()
        return run.id


def _claim(database: Database, worker: str = "one") -> Claim | None:
    with database.writing() as session:
        return queue.claim(session, worker=worker, devices=["auto", "cpu"], lease_seconds=3600)


def _must_claim(database: Database, worker: str = "one") -> Claim:
    claim = _claim(database, worker)
    assert claim is not None
    return claim


def _get(database: Database, run_id: str) -> Run:
    with database.reading() as session:
        run = session.get_one(Run, run_id)
        session.expunge(run)
        return run


def _expire(database: Database, run_id: str) -> None:
    with database.writing() as session:
        session.get_one(Run, run_id).lease_expires_at = 1.0


def test_runs_are_claimed_by_priority_then_by_age(database: Database) -> None:
    old, young, urgent = _add(database), _add(database), _add(database, priority=5)
    assert [_must_claim(database).run_id for _ in range(3)] == [urgent, old, young]
    assert _claim(database) is None


def test_a_renewal_says_which_claims_still_hold(database: Database) -> None:
    _add(database)
    held = _must_claim(database)
    stale = Claim(held.run_id, held.claim_number - 1)
    with database.writing() as session:
        assert queue.renew(session, [held, stale], 60) == {held: False}


def test_a_worker_whose_run_was_taken_over_can_write_nothing_more(database: Database) -> None:
    run_id = _add(database)
    first = _must_claim(database)
    _expire(database, run_id)
    second = _must_claim(database, "two")
    assert second == Claim(run_id, first.claim_number + 1)
    with pytest.raises(StaleClaim), database.writing() as session:
        queue.fence(session, first)
    with database.writing() as session:
        assert queue.fence(session, second).worker == "two"
        assert queue.renew(session, [first], 60) == {}


def test_a_release_counts_nothing(database: Database) -> None:
    run_id = _add(database)
    for _ in range(5):
        claim = _must_claim(database)
        with database.writing() as session:
            queue.release(session, claim)
    run = _get(database, run_id)
    assert (run.status, run.crashes_without_progress, run.worker) == (RunStatus.QUEUED, 0, None)


@pytest.mark.parametrize("how", ["lease", "child"])
def test_three_crashes_without_progress_fail_a_run(database: Database, how: str) -> None:
    run_id = _add(database)
    for _ in range(3):
        claim = _must_claim(database)
        if how == "lease":
            _expire(database, run_id)
        else:
            with database.writing() as session:
                queue.report_crash(session, claim)
    assert _claim(database) is None
    run = _get(database, run_id)
    assert (run.status, run.error_code) == (RunStatus.FAILED, "worker_lost")


def test_a_queued_run_is_cancelled_at_once(database: Database, client: TestClient) -> None:
    run_id = _add(database)
    assert client.post(f"/runs/{run_id}/cancel").is_success
    assert _get(database, run_id).status == RunStatus.CANCELLED
    assert _claim(database) is None


def test_a_running_run_is_asked_to_end(database: Database, client: TestClient) -> None:
    run_id = _add(database)
    claim = _must_claim(database)
    assert client.post(f"/runs/{run_id}/cancel").is_success
    assert _get(database, run_id).status == RunStatus.RUNNING
    with database.writing() as session:
        assert queue.renew(session, [claim], 60) == {claim: True}
        queue.release(session, claim)
    assert _get(database, run_id).status == RunStatus.CANCELLED


def test_a_succeeded_run_stays_so_when_it_is_cancelled(database: Database, client: TestClient) -> None:
    run_id = _add(database, status=RunStatus.SUCCEEDED)
    assert client.post(f"/runs/{run_id}/cancel").status_code == 409
    assert _get(database, run_id).status == RunStatus.SUCCEEDED
