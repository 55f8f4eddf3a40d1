"""The main job with real processes: submit, train, read the results, predict, stop."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.e2e.conftest import Processes, wait_for
from tests.launcher import Launch, launch_for_real


@pytest.fixture
def launch() -> Launch:
    return launch_for_real


def test_runs_are_trained_saved_and_served(processes: Processes) -> None:
    from workers.training.data import load_dataset, split_indices

    client = processes.client
    processes.start_worker()
    network = processes.submit({"preset": "dropout-tanh", "training": {"epochs": 20}})
    forest = processes.submit({"preset": "forest-baseline"})
    runs = {run_id: processes.finish(run_id) for run_id in (network, forest)}
    assert [run["status"] for run in runs.values()] == ["succeeded", "succeeded"]

    metrics = client.get(f"/runs/{network}/metrics").json()["data"]
    assert [point["epoch"] for point in metrics] == list(range(1, 21))
    best = max(metrics, key=lambda point: (point["val_accuracy"], -point["val_loss"]))
    assert runs[network]["best"] == {name: best[name] for name in ("epoch", "val_accuracy", "val_loss")}
    checkpoint = client.get(f"/runs/{network}/checkpoints/last")
    assert checkpoint.headers["etag"].strip('"') == sha256(checkpoint.content).hexdigest()

    pixels, labels = load_dataset("digits")
    val = split_indices(labels, val_size=0.3, test_size=0.0, seed=20231110).val[:50]
    images = pixels[val].astype(np.float32)
    for run_id in runs:
        graph = client.get(f"/runs/{run_id}/model.onnx").content
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        (expected,) = session.run(["probabilities"], {"pixels": images.reshape(-1, 64)})
        answer = client.post("/predict", params={"run_id": run_id}, json={"instances": images.tolist()}).json()
        got = np.array([prediction["probabilities"] for prediction in answer["predictions"]])
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert answer["model"]["run_id"] == run_id
        assert answer["model"]["sha256"] == sha256(graph).hexdigest()

    champion = max(runs, key=lambda run_id: _best_accuracy(runs[run_id]))
    body = {"instances": images.tolist()}
    wait_for(lambda: client.post("/predict", json=body).json()["model"]["run_id"] == champion)
    processes.stop()


def _best_accuracy(run: dict[str, Any]) -> float:
    return float(run["best"]["val_accuracy"])
