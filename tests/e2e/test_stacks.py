"""Stacks with real processes: many runs over HTTP, cancelled ones among them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Processes, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone

# Other tests cover the dependence on the database; here SQLite is enough.
pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def test_runs_submitted_one_by_one_are_trained_in_few_stacks(processes: Processes) -> None:
    """Five runs are cancelled in the middle; the others get the same bits as without that."""
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
                "epochs": 800 if number else 400,
                "evaluate_every": 100,
            },
        }
        documents[processes.submit(document)] = document

    def in_the_middle() -> list[str]:
        """Return the runs of the largest stack once they have trained 100 epochs."""
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
        assert 100 < run["progress"]["epoch"] < 800
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
        assert_as_if_alone(processes.client, run_id, documents[run_id])
    processes.stop()
