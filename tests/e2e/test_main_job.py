"""The main job, with real processes: submit, train, look at the results, predict, stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnxruntime

from app.database import Database, migrate
from app.settings import Settings


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(what: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("waited in vain")


def test_runs_are_trained_saved_and_served(tmp_path: Path) -> None:
    from workers.training.data import load_dataset, split_indices

    database = Database(Settings(data_dir=tmp_path).resolved_database_url)
    migrate(database)
    database.close()
    port = _free_port()
    environment = {**os.environ, "DIGITLAB_DATA_DIR": str(tmp_path), "DIGITLAB_DEVICE": "cpu"}
    commands = (["-m", "app.cli", "api", "--port", str(port)], ["-m", "workers"])
    processes = [subprocess.Popen([sys.executable, *command], env=environment) for command in commands]
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait(lambda: client.get("/health/live").is_success)

            def submit(**document: Any) -> str:
                response = client.post("/runs", json=document)
                assert response.status_code == 202, response.text
                run_id: str = response.json()["id"]
                return run_id

            def finished(run_id: str) -> Any:
                run = client.get(f"/runs/{run_id}").json()
                return run if run["status"] in ("succeeded", "failed", "cancelled") else None

            network = submit(preset="dropout-tanh", training={"epochs": 20})
            forest = submit(preset="forest-baseline")
            runs = {run_id: _wait(partial(finished, run_id)) for run_id in (network, forest)}
            assert [run["status"] for run in runs.values()] == ["succeeded", "succeeded"]

            metrics = client.get(f"/runs/{network}/metrics").json()["data"]
            assert [point["epoch"] for point in metrics] == list(range(1, 21))
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

            best = max(runs, key=lambda run_id: metrics_best(runs[run_id]))
            body = {"instances": images.tolist()}
            _wait(lambda: client.post("/predict", json=body).json()["model"]["run_id"] == best, 30)
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        assert processes[1].wait(60) == 0
        processes[0].wait(60)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def metrics_best(run: dict[str, Any]) -> float:
    return float(run["best"]["val_accuracy"])
