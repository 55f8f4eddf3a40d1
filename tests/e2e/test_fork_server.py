"""A worker's fork server: a killed trainer is replaced at once, and training survives the death of the server."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from app.tables import RunStatus
from tests.e2e.conftest import Processes, find_fork_server, find_trainer, has_ended, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone
from tests.launcher import Launch, launch_for_real

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone"),
    pytest.mark.parametrize("settings", ["sqlite"], indirect=True),
]

NUM_KILLS = 10
SETTINGS = {"DIGITLAB_COMMIT_SECONDS": "0.1", "DIGITLAB_POLL_SECONDS": "0.1"}


def document(epochs: int) -> dict[str, Any]:
    return {
        "seed": 5,
        "model": {"hidden_sizes": [24, 24], "activation": "tanh", "dropout": 0.25},
        "training": {"batch_size": 20, "epochs": epochs, "evaluate_every": 100},
    }


@pytest.fixture
def launch() -> Launch:
    """Start processes without forking, so that the worker's fork server loads everything by itself."""
    return launch_for_real


def start_training(processes: Processes, *, epochs: int = 3_000, fork_server: str = "true") -> tuple[str, int]:
    """Start a run and wait until it is in training; return its id and its worker's process id."""
    worker = processes.start_worker(**SETTINGS, DIGITLAB_FORK_SERVER=fork_server)
    run_id = processes.submit(document(epochs))
    processes.wait_for_epoch(run_id, 0)
    return run_id, worker.pid


def kill_trainer(processes: Processes, run_id: str, worker: int) -> None:
    """Kill the worker's trainer and wait until another trainer has the run."""
    claim = processes.row(run_id).claim_number
    trainer = find_trainer(worker)
    assert trainer is not None
    os.kill(trainer, signal.SIGKILL)
    wait_for(lambda: processes.row(run_id).claim_number > claim)


def test_ten_killed_trainers_are_replaced_from_one_server(processes: Processes) -> None:
    run_id, worker = start_training(processes, epochs=8_000)
    server = find_fork_server(worker)
    for _ in range(NUM_KILLS):
        processes.wait_for_epoch(run_id, processes.row(run_id).epoch)  # repeated crashes without progress fail a run
        kill_trainer(processes, run_id, worker)
    assert find_fork_server(worker) == server
    starts = [event["data"]["claim_number"] for event in processes.events(run_id) if event["type"] == "started"]
    assert starts == list(range(1, NUM_KILLS + 2))
    assert processes.log.count("Loading the training code") == 1, "the trainers had nothing left to load"
    assert processes.finish(run_id)["status"] == "succeeded"
    assert_as_if_alone(processes.client, run_id, document(8_000))
    processes.stop()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_without_its_server_a_trainer_goes_on_and_its_successor_starts_cold(processes: Processes, number: int) -> None:
    run_id, worker = start_training(processes)
    trainer, server = find_trainer(worker), find_fork_server(worker)
    assert server is not None
    os.kill(server, number)
    processes.wait_for_epoch(run_id, processes.row(run_id).epoch)
    assert find_trainer(worker) == trainer
    kill_trainer(processes, run_id, worker)
    assert find_fork_server(worker) not in (server, None)
    assert has_ended(server)
    assert processes.finish(run_id)["status"] == "succeeded"
    processes.stop()


def test_trainers_are_spawned_where_the_setting_says_so(processes: Processes) -> None:
    run_id, worker = start_training(processes, fork_server="false")
    assert find_fork_server(worker) is None
    kill_trainer(processes, run_id, worker)
    assert processes.log.count("Loading the training code") == 2
    assert processes.finish(run_id)["status"] == "succeeded"
    processes.stop()


def test_a_sigterm_to_the_whole_process_group_gives_the_runs_back(processes: Processes) -> None:
    run_id, worker = start_training(processes)
    pids = [worker, find_trainer(worker), find_fork_server(worker)]
    for pid in reversed(pids):
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
    assert processes.workers.pop().wait(60) == 0
    run = processes.row(run_id)
    assert (run.status, run.crashes_without_progress, run.worker) == (RunStatus.QUEUED, 0, None)
    assert all(has_ended(pid) for pid in pids if pid is not None)


def test_trainer_and_server_end_with_a_worker_that_is_killed(processes: Processes) -> None:
    _, worker = start_training(processes)
    pids = [find_trainer(worker), find_fork_server(worker)]
    assert None not in pids
    victim = processes.workers.pop()
    victim.kill()
    victim.wait()
    wait_for(lambda: all(has_ended(pid) for pid in pids if pid is not None))
