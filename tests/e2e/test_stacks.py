"""Stacks with real processes: many runs over HTTP, cancelled ones among them, and a trainer that is killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.runs.config import RunConfig, complete
from tests.e2e.conftest import Processes, wait_for
from workers.preparation import mlp_config
from workers.training import export, serialization
from workers.training.checkpoint import Checkpoint
from workers.training.data import load_dataset, split_indices, to_image_tensors
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.stack import Member

NUM_KILLS = 10


def _train_alone(document: dict[str, Any]) -> tuple[MlpTraining, list[Metrics]]:
    """The same configuration, uninterrupted, alone, without a database."""
    import torch

    config = RunConfig.model_validate(complete(RunConfig().model_dump(), document))
    assert config.scaling is not None
    pixels, labels = load_dataset(config.dataset)
    split = split_indices(labels, val_size=config.split.val_size, test_size=0.0, seed=config.split.seed)
    tensors = to_image_tensors(pixels, labels, config.scaling)
    training = StackTraining([Member(mlp_config(config), tensors, split)], torch.device("cpu"))
    (run,) = training.active
    rows = []
    while not run.is_finished:
        rows += [metrics for _, metrics in training.run_epoch()]
    return run, rows


def _assert_as_if_alone(processes: Processes, run_id: str, document: dict[str, Any]) -> None:
    """Every bit of the weights, the saved model and the metrics, but for the seconds."""
    run, rows = _train_alone(document)
    expected = run.checkpoints()
    for role in ("last", "best"):
        stored = serialization.from_bytes(processes.client.get(f"/runs/{run_id}/checkpoints/{role}").content)
        _assert_same_arrays(stored, expected[role])
    model = processes.client.get(f"/runs/{run_id}/model.onnx").content
    assert model == export.to_onnx(run.result().model, "unit")
    stored_rows = processes.client.get(f"/runs/{run_id}/metrics").json()["data"]
    assert len(stored_rows) == len(rows)
    for stored_row, row in zip(stored_rows, rows, strict=True):
        for name in (
            "epoch", "train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy",
            "val_loss", "val_accuracy", "gradient_norms", "weight_norms",
        ):  # fmt: skip
            assert stored_row[name] == getattr(row, name), name


def _assert_same_arrays(one: Checkpoint, other: Checkpoint) -> None:
    assert one.epoch == other.epoch
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert np.array_equal(array, other.arrays[name]), name


def test_runs_submitted_one_by_one_are_trained_in_few_stacks(processes: Processes) -> None:
    """And cancelling five of them in the middle leaves the others' bits as they would have been."""
    processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.2")
    wait_for(lambda: [worker for worker in processes.client.get("/workers").json()["data"] if worker["device"]])
    documents: dict[str, dict[str, Any]] = {}
    for number in range(48):
        document: dict[str, Any] = {
            "seed": number,
            "model": {
                "hidden_sizes": [12 + number % 5, 16],
                "activation": ("tanh", "relu", "sigmoid")[number % 3],
                "dropout": (0.0, 0.25)[number % 2],
            },
            "training": {
                "optimizer": {"kind": "sgd", "learning_rate": 0.01 + 0.001 * number},
                "batch_size": 20,
                "epochs": 1200 if number else 400,
                "evaluate_every": 100,
            },
        }
        documents[processes.submit(document)] = document

    def in_the_middle() -> list[str]:
        """Of the largest stack: its runs, once they are under way."""
        running = processes.client.get("/runs", params={"status": "running", "limit": 200}).json()["data"]
        return [run["id"] for run in running if run["stack_size"] >= 24 and run["progress"]["epoch"] > 100]

    cancelled = wait_for(in_the_middle)[3:24:5]
    assert len(cancelled) == 5
    for run_id in cancelled:
        assert processes.client.post(f"/runs/{run_id}/cancel").is_success
    runs = {run_id: processes.finish(run_id) for run_id in documents}

    for run_id in cancelled:
        run = runs.pop(run_id)
        assert run["status"] == "cancelled"
        assert 100 < run["progress"]["epoch"] < 1200
    assert {run["status"] for run in runs.values()} == {"succeeded"}
    stacks = {run["stack_id"] for run in runs.values()}
    assert len(stacks) <= 5
    assert max(run["stack_size"] for run in runs.values()) >= 24
    for run_id, run in runs.items():
        metrics = processes.client.get(f"/runs/{run_id}/metrics").json()["data"]
        epochs = documents[run_id]["training"]["epochs"]
        assert [row["epoch"] for row in metrics] == [1, *range(100, epochs + 1, 100)]
        assert run["best"]["val_accuracy"] == max(row["val_accuracy"] for row in metrics)
        assert {each["role"] for each in processes.client.get(f"/runs/{run_id}/checkpoints").json()["data"]} == {
            "best",
            "last",
        }
    models = {processes.client.get(f"/runs/{run_id}/model.onnx").content for run_id in runs}
    assert len(models) == len(runs)
    shared = [run_id for run_id, run in runs.items() if run["stack_id"] == processes.get(cancelled[0])["stack_id"]]
    assert len(shared) >= 19
    for run_id in shared[::4]:
        _assert_as_if_alone(processes, run_id, documents[run_id])
    processes.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the trainer child in /proc")
def test_a_run_whose_trainer_is_killed_ten_times_ends_as_if_it_had_not_been(processes: Processes) -> None:
    worker = processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.1")
    document = {
        "seed": 5,
        "model": {"hidden_sizes": [24, 24], "activation": "tanh", "dropout": 0.25},
        "training": {
            "optimizer": {"kind": "sgd", "learning_rate": 0.01},
            "batch_size": 20,
            "epochs": 30_000,
            "early_stopping": {"patience": 25_000},
        },
    }
    run_id = processes.submit(document)
    moments = random.Random(20231110)
    epoch = 0
    for _ in range(NUM_KILLS):
        epoch = wait_for(partial(_progress_beyond, processes, run_id, epoch))
        time.sleep(moments.uniform(0, 0.3))
        os.kill(_find_trainer(worker.pid), signal.SIGKILL)
        epoch = processes.get(run_id)["progress"]["epoch"]
    run = processes.finish(run_id)
    assert run["status"] == "succeeded"
    assert _claim_number(processes, run_id) == NUM_KILLS + 1, "each kill hit the run in training"
    _assert_as_if_alone(processes, run_id, document)
    processes.stop()


def _progress_beyond(processes: Processes, run_id: str, epoch: int) -> int | None:
    run = processes.get(run_id)
    assert run["status"] in ("queued", "running"), "the run ended before it was killed often enough"
    committed: int = run["progress"]["epoch"]
    return committed if committed > epoch else None


def _find_trainer(worker_pid: int) -> int:
    children = Path(f"/proc/{worker_pid}/task/{worker_pid}/children").read_text().split()
    (trainer,) = [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return int(trainer)


def _claim_number(processes: Processes, run_id: str) -> int:
    from app.database import Database
    from app.settings import Settings
    from app.tables import Run

    database = Database(Settings(data_dir=Path(processes.environment["DIGITLAB_DATA_DIR"])).resolved_database_url)
    try:
        with database.reading() as session:
            return session.get_one(Run, run_id).claim_number
    finally:
        database.close()
