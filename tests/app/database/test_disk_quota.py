"""The database's quota: the size of a submission is estimated beforehand and refused if it exceeds the quota."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database, used_bytes
from app.main import create_app
from app.run_config import RunConfig
from app.run_costs import estimated_bytes
from app.runs import repository, service
from app.settings import Settings
from app.tables import EventType, Run, RunStatus
from tests.conftest import AddRun, AssertProblem, TestClient

RUN = {"training": {"epochs": 50}}
SWEEP = {"base": RUN, "parameters": {"seed": [1, 2, 3]}}


def read_used_bytes(database: Database) -> int:
    with database.reading() as session:
        return used_bytes(session)


def client_with_quota(settings: Settings, quota: int) -> TestClient:
    return TestClient(create_app(settings.model_copy(update={"disk_quota_bytes": quota})))


@pytest.mark.parametrize(("path", "document", "num_runs"), [("/runs", RUN, 1), ("/sweeps", SWEEP, 3)])
def test_what_goes_beyond_the_quota_is_refused_and_its_dry_run_says_why(
    settings: Settings, database: Database, assert_problem: AssertProblem, path: str, document: Any, num_runs: int
) -> None:
    used = read_used_bytes(database)
    with client_with_quota(settings, used) as client:
        estimated = client.post(path, json=document, params={"dry_run": True}).json()["estimated_bytes"]
        assert estimated == num_runs * estimated_bytes(RunConfig.model_validate(RUN))
        problem = assert_problem(client.post(path, json=document), 507, "disk-quota-exceeded")
        for number in (f"{used:,}", f"{estimated:,}", "DIGITLAB_DISK_QUOTA_BYTES"):
            assert number in problem["detail"]
        assert client.get("/runs").json()["data"] == []
    with client_with_quota(settings, used + 2**20) as client:
        headers = {"Idempotency-Key": "once"}
        accepted = client.post(path, json=document, headers=headers)
        assert accepted.status_code == 202
    with client_with_quota(settings, 1) as client:  # a repeated request still gets the response of the accepted one
        assert client.post(path, json=document, headers=headers).json()["id"] == accepted.json()["id"]


def test_without_a_quota_everything_is_accepted(settings: Settings, database: Database) -> None:
    assert read_used_bytes(database) > 0
    with client_with_quota(settings, 0) as client:
        assert client.post("/runs", json=RUN).status_code == 202


def test_what_is_under_way_goes_on_beyond_the_quota(settings: Settings, add_run: AddRun, database: Database) -> None:
    """Resuming a paused run and changing a run add no run, so the quota does not forbid them."""
    run_id = add_run()
    with client_with_quota(settings, 1) as client:
        assert client.post(f"/runs/{run_id}/pause").json()["status"] == "paused"
        assert client.post(f"/runs/{run_id}/resume").json()["status"] == "queued"
        assert client.patch(f"/runs/{run_id}", json={"name": "b"}).json()["name"] == "b"
        types = [event["type"] for event in client.get(f"/runs/{run_id}/events").json()["data"]]
    assert types == [EventType.QUEUED, EventType.PAUSED, EventType.RESUMED]
    with database.reading() as session:
        assert session.get_one(Run, run_id).status is RunStatus.QUEUED


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # Postgres frees the space only at a vacuum
def test_what_is_deleted_makes_room(database: Database, add_run: AddRun) -> None:
    before = read_used_bytes(database)
    run_ids = [add_run(status=RunStatus.SUCCEEDED, notes="x" * 100_000) for _ in range(2)]
    full = read_used_bytes(database)
    assert full >= before + 200_000
    for run_id in run_ids:
        with database.writing() as session:
            service.delete(session, run_id)
    with database.writing() as session:
        while repository.purge_deleted(session, 1000):  # deletes in steps, as housekeeping does
            pass
    assert read_used_bytes(database) <= full - 200_000


def test_an_estimate_grows_with_what_is_stored() -> None:
    def estimate(**fields: Any) -> int:
        return estimated_bytes(RunConfig.model_validate(fields))

    every_epoch = {"epochs": 100_000, "evaluate_every": 1, "batch_size": None}
    assert 25_000_000 < estimate(training=every_epoch) < 40_000_000  # each metric is stored once, with 300 bytes
    assert estimate(training=every_epoch | {"evaluate_every": 100}) < 1_000_000
    assert estimate(model={"kind": "mlp", "hidden_sizes": [1024, 1024]}) > 4 * 4 * 1024 * 1024
    forest = {"kind": "random_forest", "n_estimators": 100, "max_depth": 20}
    assert 2_900_000 < estimate(model=forest) < 3_300_000
    assert estimate(model=forest | {"max_depth": 1}) < 200_000
