"""Snapshots over HTTP, as the recorder has written them."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from sqlalchemy import func, select, update

from app.database import Database
from app.run_config import MAX_SNAPSHOT_NUMBERS, RunConfig, complete
from app.run_costs import estimated_bytes
from app.runs import repository
from app.tables import Snapshot
from tests.conftest import AddRun, AssertProblem, TestClient, claim_stack
from workers.preparation import Preparation, register_datasets
from workers.recorder import Recorder
from workers.results import Succeeded

SMALL = {"model": {"hidden_sizes": [6]}, "training": {"epochs": 6, "batch_size": 200}}


def configure(**training: object) -> RunConfig:
    return RunConfig.model_validate(complete(complete(RunConfig().model_dump(), SMALL), {"training": training}))


@pytest.fixture
def run_id(database: Database, add_run: AddRun) -> str:
    """Train a run that has asked for three snapshots; its first epoch is a commit of its own."""
    register_datasets(database)
    run_id = add_run(configure(snapshots=3))
    with database.writing() as session:
        (claim,) = claim_stack(session, worker="w", devices=["auto"], lease_seconds=3600, max_stack_bytes=2**26)
    preparation = Preparation(database, "cpu")
    prepared = preparation.read(claim)
    training, (run,) = preparation.make_training([prepared])
    recorder = Recorder(database, 1e9, lambda _claim: None)
    recorder.start({run: claim}, {})
    for _ in range(6):
        for each, metrics in training.run_epoch():
            recorder.add(each, metrics)
        recorder.commit_if_due([run])
    recorder.end({run: Succeeded(run.result(), prepared.config, prepared.images)})
    recorder.close()
    return run_id


def test_a_page_holds_weights_and_answers_by_epoch(client: TestClient, database: Database, run_id: str) -> None:
    page = client.get(f"/runs/{run_id}/snapshots").json()
    assert [each["epoch"] for each in page["data"]] == [1, 2, 6]
    assert (len(page["images"]), len(page["labels"]), page["has_more"]) == (540, 540, False)
    metrics = {each["epoch"]: each["val_accuracy"] for each in client.get(f"/runs/{run_id}/metrics").json()["data"]}
    for each in page["data"]:
        right = np.array(each["digits"]) == page["labels"]
        assert right.mean() == pytest.approx(metrics[each["epoch"]])
        assert [np.shape(layer["weights"]) for layer in each["layers"]] == [(6, 64), (10, 6)]
        assert [np.shape(layer["biases"]) for layer in each["layers"]] == [(6,), (10,)]
        assert (len(each["confidences"]), min(each["confidences"]) >= 0.1) == (540, True)
    with database.reading() as session:
        blob = session.scalars(select(Snapshot.blob).where(Snapshot.epoch == 6)).one()
        sizes = session.scalars(select(func.length(Snapshot.blob))).all()
    assert np.array_equal(
        np.float32(page["data"][-1]["layers"][1]["weights"]), safetensors.numpy.load(blob)["weights2"]
    )
    estimated = estimated_bytes(configure(snapshots=3)) - estimated_bytes(configure())
    assert sum(sizes) <= estimated <= 2 * sum(sizes)
    last = client.get(f"/runs/{run_id}/weights?layer=2&role=last").json()["weights"]
    assert np.array_equal(np.float32(last), np.float32(page["data"][-1]["layers"][1]["weights"]))


def test_a_page_follows_a_run_by_epoch_and_is_not_sent_twice(client: TestClient, run_id: str) -> None:
    whole = client.get(f"/runs/{run_id}/snapshots")
    later = client.get(f"/runs/{run_id}/snapshots?after=1")
    assert later.json()["data"] == whole.json()["data"][1:]
    assert later.headers["ETag"] != whole.headers["ETag"]
    again = client.get(f"/runs/{run_id}/snapshots", headers={"If-None-Match": whole.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(f"/runs/{run_id}/snapshots?after=6").json()["data"] == []


def test_snapshots_go_with_their_run(
    client: TestClient, database: Database, run_id: str, assert_problem: AssertProblem
) -> None:
    with database.writing() as session:
        session.execute(update(Snapshot).where(Snapshot.epoch == 2).values(sha256="0" * 64))
    assert_problem(client.get(f"/runs/{run_id}/snapshots"), 500, None)
    assert client.delete(f"/runs/{run_id}").status_code == 204
    assert_problem(client.get(f"/runs/{run_id}/snapshots"), 404, "run-not-found")
    with database.writing() as session:
        while repository.purge_deleted(session, 100):
            pass
        assert session.scalar(select(func.count()).select_from(Snapshot)) == 0


def test_a_run_that_asked_for_none_has_none_and_a_forest_cannot(
    client: TestClient, assert_problem: AssertProblem
) -> None:
    run_id = client.post("/runs", json={}).json()["id"]
    page = client.get(f"/runs/{run_id}/snapshots").json()
    assert (page["data"], page["images"]) == ([], [])
    forest = client.post("/runs", json={"model": {"kind": "random_forest"}}).json()["id"]
    assert_problem(client.get(f"/runs/{forest}/snapshots"), 409, "no-weights")
    assert_problem(client.get("/runs/nope/snapshots"), 404, "run-not-found")


def test_the_images_of_val_come_once_there_is_a_split(client: TestClient, database: Database) -> None:
    run_id = client.post("/runs", json={"training": {"snapshots": 3}}).json()["id"]
    early = client.get(f"/runs/{run_id}/snapshots")
    register_datasets(database)
    later = client.get(f"/runs/{run_id}/snapshots", headers={"If-None-Match": early.headers["ETag"]})
    assert later.status_code == 200
    assert (early.json()["images"], len(later.json()["images"])) == ([], 540)


def test_what_snapshots_may_hold_is_bounded(client: TestClient, assert_problem: AssertProblem) -> None:
    def plan(snapshots: int, hidden_sizes: list[int]) -> object:
        document = {"model": {"hidden_sizes": hidden_sizes}, "training": {"snapshots": snapshots}}
        return client.post("/runs?dry_run=true", json=document)

    problem = assert_problem(plan(3, [1024, 600]), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == "#/training"
    assert f"more than {MAX_SNAPSHOT_NUMBERS:,}: snapshots may be at most 2" in problem["detail"]
    assert plan(2, [1024, 600]).status_code == 200  # type: ignore[attr-defined]
    assert assert_problem(plan(33, []), 422, "invalid-input")["errors"][0]["pointer"] == "#/training/snapshots"


def test_stored_configurations_of_before_ask_for_none() -> None:
    stored = RunConfig().model_dump()
    del stored["training"]["snapshots"]
    config = RunConfig.model_validate(stored)
    assert config == RunConfig()
    assert config.training is not None
    assert config.training.snapshots == 0
