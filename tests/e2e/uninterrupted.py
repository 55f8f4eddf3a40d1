"""Trains a run without any interruption, as the reference for runs that were interrupted."""

from __future__ import annotations

from typing import Any

import httpx2
import numpy as np
import torch

from app.run_config import RunConfig, complete
from workers.preparation import mlp_config
from workers.training import export, serialization
from workers.training.bank import Banks
from workers.training.checkpoint import TrainingState
from workers.training.data import load_dataset, split_indices, to_image_tensors
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.stack import Member


def train_alone(document: dict[str, Any]) -> tuple[MlpTraining, list[Metrics]]:
    """Train a configuration uninterrupted, alone and without a database; return the run and its metrics."""
    config = RunConfig.model_validate(complete(RunConfig().model_dump(), document))
    assert config.scaling is not None
    pixels, labels = load_dataset(config.dataset)
    split = split_indices(labels, val_size=config.split.val_size, test_size=0.0, seed=config.split.seed)
    tensors = to_image_tensors(pixels, labels, config.scaling)
    device = torch.device("cpu")
    bank = None
    if config.augmentation is not None:
        copies, strength = config.augmentation.copies, config.augmentation.strength
        bank = Banks().get(config.dataset, pixels, strength, copies, device)
    training = StackTraining([Member(mlp_config(config), tensors, split, bank)], device)
    (run,) = training.active
    rows = []
    while not run.is_finished:
        rows += [metrics for _, metrics in training.run_epoch()]
    return run, rows


def assert_as_if_alone(client: httpx2.Client, run_id: str, document: dict[str, Any]) -> None:
    """Check that weights, snapshots, model and metrics (except seconds) equal the uninterrupted run's bit for bit."""
    run, rows = train_alone(document)
    expected = run.take_checkpoints()
    for role in ("last", "best"):
        stored = serialization.from_bytes(client.get(f"/runs/{run_id}/checkpoints/{role}").content)
        _assert_same_arrays(stored, expected[role])
    _assert_same_snapshots(client.get(f"/runs/{run_id}/snapshots").json()["data"], run.take_snapshots())
    model = client.get(f"/runs/{run_id}/model.onnx").content
    assert model == export.to_onnx(run.result().model, "unit")
    stored_rows = client.get(f"/runs/{run_id}/metrics").json()["data"]
    assert len(stored_rows) == len(rows)
    for stored_row, row in zip(stored_rows, rows, strict=True):
        for name in (
            "epoch", "train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy",
            "val_loss", "val_accuracy", "gradient_norms", "weight_norms",
        ):  # fmt: skip
            assert stored_row[name] == getattr(row, name), name


def _assert_same_snapshots(shown: list[dict[str, Any]], expected: list[TrainingState]) -> None:
    assert [each["epoch"] for each in shown] == [state.epoch for state in expected]
    for each, state in zip(shown, expected, strict=True):
        arrays: dict[str, Any] = {
            "val_digits": np.uint8(each["digits"]),
            "val_confidences": np.float32(each["confidences"]),
        }
        for number, layer in enumerate(each["layers"], start=1):
            arrays |= {f"{name}{number}": np.float32(layer[name]) for name in ("weights", "biases")}
        _assert_same_arrays(TrainingState(state.epoch, arrays, {}), state)


def _assert_same_arrays(one: TrainingState, other: TrainingState) -> None:
    assert one.epoch == other.epoch
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert np.array_equal(array, other.arrays[name]), name
