"""Ensembles in a trainer: combined, saved and served; members that are gone or damaged fail the run by name."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sqlalchemy import select, update

from app.database import Database
from app.models import repository as models
from app.queue import claiming, lifecycle
from app.run_config import RunConfig
from app.settings import Settings
from app.tables import Evaluation, Metric, Run, RunStatus, SavedModel
from tests.conftest import AddModel, TestClient, claim_stack, get_run
from tests.graphs import random_graph
from workers.preparation import register_datasets
from workers.shared_clocks import Pulse
from workers.trainer import Trainer

Train = Callable[[], None]


@pytest.fixture
def members(add_model: AddModel, database: Database) -> list[str]:
    register_datasets(database)
    return [add_model(val_accuracy=0.05, graph=random_graph(seed)) for seed in range(3)]


@pytest.fixture
def ensemble(client: TestClient, members: list[str]) -> str:
    document = {"model": {"kind": "ensemble", "members": members}}
    run_id: str = client.post("/runs", json=document).json()["id"]
    return run_id


@pytest.fixture
def train(settings: Settings, database: Database) -> Train:
    """Trains what is queued first, as a trainer does for its worker."""
    connection, _worker = multiprocessing.Pipe()
    trainer = Trainer(connection, settings, database, Pulse(multiprocessing.get_context("spawn")))

    def claim_and_train() -> None:
        with database.writing() as session:
            devices = ["auto", "cpu"]
            claims = claim_stack(session, worker="w", devices=devices, lease_seconds=3600, max_stack_bytes=2**26)
        assert len(claims) == 1
        trainer._train([claims])

    claim_and_train.worker = _worker  # type: ignore[attr-defined]  # keeps the pipe open
    return claim_and_train


def test_an_ensemble_is_saved_evaluated_and_may_become_champion(
    client: TestClient, database: Database, train: Train, ensemble: str, members: list[str]
) -> None:
    train()
    run = client.get(f"/runs/{ensemble}").json()
    assert (run["status"], run["error"], run["progress"]["epoch"]) == ("succeeded", None, 1)
    assert run["provenance"]["engine"].startswith("onnxruntime")
    (metric,) = client.get(f"/runs/{ensemble}/metrics").json()["data"]
    assert run["best"] == {name: metric[name] for name in ("epoch", "val_accuracy", "val_loss")}
    assert (metric["gradient_norms"], metric["weight_norms"]) == (None, None)
    with database.reading() as session:
        model = models.get_saved_model(session, ensemble)
        evaluations = session.scalars(select(Evaluation).where(Evaluation.run_id == ensemble)).all()
    assert model is not None
    assert (model.num_parameters, model.on_canonical_split, model.val_accuracy) == (1830, True, metric["val_accuracy"])
    assert model.train_accuracy == metric["train_eval_accuracy"]
    assert [each.split for each in evaluations] == ["val"]

    confusion = client.get(f"/runs/{ensemble}/confusion").json()
    assert confusion["accuracy"] == pytest.approx(metric["val_accuracy"])
    page = client.get(f"/runs/{ensemble}/mistakes", params={"against": members[0]})
    assert page.status_code == 404, "the members of this test were never evaluated"
    assert client.get(f"/runs/{ensemble}/mistakes").json()["total"] == round(540 * (1 - metric["val_accuracy"]))
    assert client.get("/models").json()["data"][0]["run_id"] == ensemble
    assert client.get("/models/champion").json()["model"]["model_kind"] == "ensemble"

    for member in members:
        assert client.delete(f"/runs/{member}").status_code == 204
    image = np.random.default_rng(0).integers(0, 17, (1, 8, 8))
    answer = client.post("/predict", params={"run_id": ensemble}, json={"instances": image.tolist()}).json()
    pixels = image.reshape(1, 64).astype(np.float32)
    expected = np.mean(
        [
            onnxruntime.InferenceSession(random_graph(seed)).run(["probabilities"], {"pixels": pixels})
            for seed in (0, 1, 2)
        ],
        axis=0,
    )
    np.testing.assert_allclose(answer["predictions"][0]["probabilities"], expected[0, 0], atol=1e-5)
    name = f"/v2/models/{ensemble}"
    assert {output["name"] for output in client.get(name).json()["outputs"]} == {"digit", "probabilities", "verdict"}


def test_a_test_split_is_evaluated_too(
    client: TestClient, database: Database, train: Train, add_model: AddModel
) -> None:
    register_datasets(database)
    config = RunConfig.model_validate({"split": {"test_size": 0.1}})
    ids = [add_model(graph=random_graph(seed), config=config, on_canonical_split=True) for seed in range(2)]
    run_id = client.post("/runs", json={"model": {"kind": "ensemble", "members": ids}}).json()["id"]
    train()
    run = get_run(database, run_id)
    assert run.status is RunStatus.SUCCEEDED
    assert run.test_accuracy is not None
    with database.reading() as session:
        evaluations = session.scalars(select(Evaluation).where(Evaluation.run_id == run_id)).all()
    assert sorted(each.split for each in evaluations) == ["test", "val"]


def damage(database: Database, run_id: str, **columns: Any) -> None:
    with database.writing() as session:
        session.execute(update(SavedModel).where(SavedModel.run_id == run_id).values(**columns))


def test_a_member_that_is_gone_or_damaged_fails_the_run_and_is_named(
    client: TestClient, database: Database, train: Train, ensemble: str, members: list[str], add_model: AddModel
) -> None:
    document = {"model": {"kind": "ensemble", "members": [members[0], add_model(graph=b"no graph")]}}
    unreadable = client.post("/runs", json=document).json()["id"]
    damage(database, members[1], sha256="0" * 64)
    train()
    failed = client.get(f"/runs/{ensemble}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "member_damaged")
    assert f"run {members[1]}, a member, does not match its sha256" in failed["error"]["detail"]
    train()
    failed = client.get(f"/runs/{unreadable}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "member_damaged")
    assert "no graph that can be read" in failed["error"]["detail"]
    again = client.post("/runs", json={"from_run": ensemble}).json()["id"]
    assert client.delete(f"/runs/{members[2]}").status_code == 204
    damage(database, members[1], sha256=get_sha256(database, members[1]))
    train()
    failed = client.get(f"/runs/{again}").json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "member_deleted")
    assert failed["error"]["detail"].startswith(f"Run {members[2]}, a member, has been deleted")
    assert client.get(f"/runs/{again}/model.onnx").status_code == 404
    types = [event["type"] for event in client.get(f"/runs/{again}/events").json()["data"]]
    assert types == ["queued", "started", "failed"]


def get_sha256(database: Database, run_id: str) -> str:
    from app.blobs import digest

    with database.reading() as session:
        model = models.get_saved_model(session, run_id)
    assert model is not None
    return digest(model.onnx)


def test_an_ensemble_whose_worker_was_lost_is_combined_again(
    client: TestClient, database: Database, train: Train, ensemble: str
) -> None:
    with database.writing() as session:
        (claim,) = claim_stack(session, worker="lost", devices=["auto"], lease_seconds=3600, max_stack_bytes=2**26)
        lifecycle.record_worker_loss(session, claiming.fence(session, claim))
    train()
    run = get_run(database, ensemble)
    assert (run.status, run.claim_number, run.epoch) == (RunStatus.SUCCEEDED, 2, 1)
    with database.reading() as session:
        assert len(session.scalars(select(Metric).where(Metric.run_id == ensemble)).all()) == 1
        assert session.get_one(Run, ensemble).crashes_without_progress == 0
    types = [event["type"] for event in client.get(f"/runs/{ensemble}/events").json()["data"]]
    assert types == ["queued", "started", "worker_lost", "queued", "started", "metric", "succeeded", "promoted"]
