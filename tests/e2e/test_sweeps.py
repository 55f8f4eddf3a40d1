"""Sweeps with real processes: reports are recomputed, workers killed, sweeps cancelled, cross-validated and halved."""

from __future__ import annotations

import csv
import io
import os
import signal
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import FINAL, Processes, find_trainer, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone

# Other tests cover the dependence on the database; here SQLite is enough.
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

SMALL_PRACTICE = {
    "preset": "practice",
    "base": {"training": {"epochs": 60, "evaluate_every": 5}},
    "parameters": {
        "model.hidden_sizes": [[16, 16], [12, 12]],
        "training.optimizer.learning_rate": [0.05, 0.3],
        "model.activation": ["relu", "sigmoid"],
    },
    "repeats": 2,
}


def submit(processes: Processes, document: dict[str, Any]) -> str:
    response = processes.client.post("/sweeps", json=document)
    assert response.status_code == 202, response.text
    sweep_id: str = response.json()["id"]
    return sweep_id


def finish(processes: Processes, sweep_id: str) -> dict[str, Any]:
    def finished() -> dict[str, Any] | None:
        sweep: dict[str, Any] = processes.client.get(f"/sweeps/{sweep_id}").json()
        return sweep if sweep["status"] in FINAL else None

    sweep: dict[str, Any] = wait_for(finished)
    return sweep


def runs_of(processes: Processes, sweep_id: str) -> list[dict[str, Any]]:
    runs = processes.client.get("/runs", params={"sweep_id": sweep_id, "limit": 200, "sort": "created_at"}).json()
    assert not runs["has_more"]
    return sorted(runs["data"], key=lambda run: run["trial_number"])


@on_sqlite
def test_a_report_agrees_with_the_raw_metrics(processes: Processes) -> None:
    processes.start_worker()
    sweep_id = submit(processes, SMALL_PRACTICE)
    assert finish(processes, sweep_id)["status"] == "succeeded"
    runs = runs_of(processes, sweep_id)
    assert len(runs) == 16
    report = processes.client.get(f"/sweeps/{sweep_id}/report").json()
    trials = {trial["run_id"]: trial for trial in report["trials"]}
    accuracies, plateaus = [], []
    for run in runs:
        metrics = processes.client.get(f"/runs/{run['id']}/metrics").json()["data"]
        assert [row["epoch"] for row in metrics] == [1, *range(5, 61, 5)]
        assert {each["role"] for each in processes.client.get(f"/runs/{run['id']}/checkpoints").json()["data"]} == {
            "best",
            "last",
        }
        assert processes.client.get(f"/runs/{run['id']}/model.onnx").is_success
        val = np.array([row["val_accuracy"] for row in metrics])
        plateau = next(row for row in metrics if row["val_accuracy"] >= val.max() - 0.005)
        perfect = [row["epoch"] for row in metrics if row["train_eval_accuracy"] == 1]
        trial = trials[run["id"]]
        assert trial["val_accuracy"] == val.max()
        assert (trial["epochs_to_plateau"], trial["seconds_to_plateau"]) == (plateau["epoch"], plateau["seconds"])
        assert trial["epochs_to_full_train_accuracy"] == (perfect[0] if perfect else None)
        assert trial["parameters"]["model.hidden_sizes"] == run["config"]["model"]["hidden_sizes"]
        accuracies.append(val.max())
        plateaus.append(plateau["epoch"])
    assert [trial["rank"] for trial in report["trials"]] == list(range(1, 17))
    assert [trial["val_accuracy"] for trial in report["trials"]] == sorted(accuracies, reverse=True)

    repeats = np.array(accuracies).reshape(8, 2)
    means, errors = repeats.mean(axis=1), repeats.std(axis=1, ddof=1) / np.sqrt(2)
    sizes = np.array([runs[2 * point]["num_parameters"] for point in range(8)])
    epochs = np.array(plateaus).reshape(8, 2).mean(axis=1)
    for point in report["points"]:
        number = point["point_number"]
        assert point["mean_val_accuracy"] == pytest.approx(means[number])
        assert point["standard_error"] == pytest.approx(errors[number])
        assert point["mean_epochs_to_plateau"] == pytest.approx(epochs[number])
        assert point["num_parameters"] == sizes[number]
    best = report["noise"]["best_point"]
    assert means[best] == means.max()
    good = [n for n in range(8) if n == best or means[best] - means[n] <= np.hypot(errors[best], errors[n]) + 1e-9]
    assert report["noise"]["num_within_noise"] == len(good)
    assert sizes[report["noise"]["smallest_point"]] == min(sizes[good])
    assert epochs[report["noise"]["quickest_point"]] == min(epochs[good])
    by_width = means.reshape(2, 2, 2)
    for path, axis in (("model.hidden_sizes", 0), ("training.optimizer.learning_rate", 1), ("model.activation", 2)):
        (effect,) = (each for each in report["effects"] if each["path"] == path)
        groups = np.moveaxis(by_width, axis, 0).reshape(2, 4)
        assert [value["mean_val_accuracy"] for value in effect["values"]] == pytest.approx(groups.mean(axis=1))
        between = 4 * ((groups.mean(axis=1) - means.mean()) ** 2).sum()
        assert effect["share_of_variance"] == pytest.approx(between / ((means - means.mean()) ** 2).sum())
    qualities = [(means[n], -sizes[n], -epochs[n]) for n in range(8)]
    front = [
        n
        for n, mine in enumerate(qualities)
        if not any(all(a >= b for a, b in zip(q, mine, strict=True)) and q != mine for q in qualities)
    ]
    assert sorted(report["pareto"]) == front

    table = list(csv.DictReader(io.StringIO(processes.client.get(f"/sweeps/{sweep_id}/report?format=csv").text)))
    assert [line["run_id"] for line in table] == [trial["run_id"] for trial in report["trials"]]
    assert [float(line["val_accuracy"]) for line in table] == sorted(accuracies, reverse=True)
    assert {line["model.hidden_sizes"] for line in table} == {"[16, 16]", "[12, 12]"}
    picture = processes.client.get(f"/sweeps/{sweep_id}/report.png")
    assert picture.content.startswith(b"\x89PNG")


def test_killing_the_worker_in_the_middle_loses_nothing(processes: Processes) -> None:
    processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.2", DIGITLAB_LEASE_SECONDS="2")
    document = {
        "base": {"preset": "dropout-tanh", "scaling": "unit", "training": {"epochs": 1_200, "evaluate_every": 150}},
        "parameters": {"model.hidden_sizes": [[16], [24, 24]], "training.optimizer.learning_rate": [0.01, 0.02]},
        "repeats": 3,
    }
    sweep_id = submit(processes, document)

    def in_the_middle() -> bool:
        return any(0 < run["progress"]["epoch"] < 1_200 for run in runs_of(processes, sweep_id))

    wait_for(in_the_middle)
    (worker,) = processes.workers
    trainer = find_trainer(worker.pid)
    for pid in (worker.pid, trainer):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
    worker.wait()
    processes.workers.clear()
    assert processes.client.get(f"/sweeps/{sweep_id}").json()["status"] == "running"
    processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.2", DIGITLAB_LEASE_SECONDS="2")
    sweep = finish(processes, sweep_id)
    assert (sweep["status"], sweep["progress"]["succeeded"]) == ("succeeded", 12)
    for run in runs_of(processes, sweep_id):
        metrics = processes.client.get(f"/runs/{run['id']}/metrics").json()["data"]
        assert [row["epoch"] for row in metrics] == [1, *range(150, 1_201, 150)]
    for run in runs_of(processes, sweep_id)[::4]:
        assert_as_if_alone(processes.client, run["id"], run["config"])


@on_sqlite
def test_cancelling_ends_a_sweep_at_the_next_epoch_boundary(processes: Processes) -> None:
    processes.start_worker(DIGITLAB_MAX_STACK_BYTES="2000000")
    base = {"preset": "dropout-tanh", "training": {"epochs": 100_000, "batch_size": 100}}
    sweep_id = submit(processes, {"base": base, "parameters": {"seed": list(range(20))}})

    def is_training() -> bool:
        return any(run["progress"]["epoch"] > 0 for run in runs_of(processes, sweep_id))

    wait_for(is_training)
    response = processes.client.post(f"/sweeps/{sweep_id}/cancel")
    assert response.status_code == 202
    assert response.json()["progress"]["cancelled"] > 0, "what was queued has ended at once"
    sweep = finish(processes, sweep_id)
    assert (sweep["status"], sweep["progress"]["cancelled"]) == ("cancelled", 20)
    assert all(run["progress"]["epoch"] < 100_000 for run in runs_of(processes, sweep_id))


def test_cross_validation_ends_with_a_final_run_on_the_whole_train_split(processes: Processes) -> None:
    """Two workers finish folds at the same time; the choice is made once, and only from the folds."""
    processes.start_ready_workers(2, DIGITLAB_COMMIT_SECONDS="0.2", DIGITLAB_MAX_STACK_BYTES="1000000")
    document = {
        "base": {"training": {"epochs": 20}},
        "parameters": {"model.hidden_sizes": [[64], [16]], "training.batch_size": [32, 64]},
        "cross_validation": {"folds": 3},
    }
    sweep_id = submit(processes, document)
    sweep = finish(processes, sweep_id)
    assert (sweep["status"], sweep["progress"]["succeeded"]) == ("succeeded", 13)
    *folds, final = runs_of(processes, sweep_id)
    assert final["id"] == sweep["final_run_id"]
    models = {model["run_id"]: model for model in processes.client.get("/models?limit=200").json()["data"]}
    scores = np.array([models[run["id"]]["val_accuracy"] for run in folds]).reshape(4, 3)
    means, errors = scores.mean(axis=1), scores.std(axis=1, ddof=1) / np.sqrt(3)
    best = int(means.argmax())
    good = [point for point in range(4) if means[point] >= means[best] - errors[best]]
    sizes = [folds[3 * point]["num_parameters"] for point in range(4)]
    expected = min(good, key=lambda point: (sizes[point], -means[point], point))
    choice = processes.client.get(f"/sweeps/{sweep_id}/report").json()["choice"]
    assert choice["point_number"] == expected
    assert choice["mean_val_accuracy"] == pytest.approx(means[expected])
    assert choice["final_val_accuracy"] == models[final["id"]]["val_accuracy"]
    assert final["config"]["split"]["fold"] is None
    metrics = processes.client.get(f"/runs/{final['id']}/metrics").json()["data"]
    assert choice["final_val_accuracy"] == metrics[-1]["val_accuracy"], "its last weights, not its best"
    champion = processes.client.get("/models/champion").json()
    assert champion["model"]["run_id"] == final["id"], "a model that was measured on a fold is no champion"


@on_sqlite
def test_halving_ends_hopeless_trials_at_the_rungs(processes: Processes) -> None:
    processes.start_worker()
    rates = [0.3, 0.0001, 0.1, 0.0002, 0.2, 0.0003, 0.0004, 0.05, 0.0005]
    document = {
        "base": {"model": {"hidden_sizes": [24]}, "training": {"epochs": 90, "evaluate_every": 45}},
        "parameters": {"training.optimizer.learning_rate": rates},
        "stopping": {"kind": "successive_halving", "rungs": 2, "reduction": 3},
    }
    sweep_id = submit(processes, document)
    assert finish(processes, sweep_id)["status"] == "succeeded"
    runs = runs_of(processes, sweep_id)
    ended = sorted(run["progress"]["epoch"] for run in runs)
    assert ended == [10] * 6 + [30] * 2 + [90]
    at_rung = {}
    for run in runs:
        metrics = processes.client.get(f"/runs/{run['id']}/metrics").json()["data"]
        at_rung[run["id"]] = {row["epoch"]: (row["val_accuracy"], -row["val_loss"]) for row in metrics}
        assert processes.client.get(f"/runs/{run['id']}/model.onnx").is_success
    for rung, number in ((10, 3), (30, 1)):
        reached = [run for run in runs if rung in at_rung[run["id"]]]
        best = sorted((at_rung[run["id"]][rung] for run in reached), reverse=True)[:number]
        assert all((run["progress"]["epoch"] > rung) == (at_rung[run["id"]][rung] >= best[-1]) for run in reached)
    report = processes.client.get(f"/sweeps/{sweep_id}/report").json()
    assert sum(trial["is_ended_early"] for trial in report["trials"]) == 8
