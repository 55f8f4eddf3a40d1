"""kill -9 of the trainer in the middle of a launch of several epochs, with the CUDA engine emulated on a CPU."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.e2e.conftest import Processes, find_trainer, has_ended, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone
from tests.workers.training.engines.emulation import EmulatedKernels, build
from workers.training.engines import choice
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.stack import Stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the trainer child in /proc")

NUM_KILLS = 4
RUN = {
    "model": {"hidden_sizes": [16, 12], "activation": "relu", "dropout": 0.1},
    "training": {
        "optimizer": {"kind": "adam"},
        "batch_size": 100,
        "epochs": 400,
        "evaluate_every": 10,
        "snapshots": 4,
    },
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The emulated kernels; this process trains by them too, for the comparison."""
    library = build(tmp_path, torch.float32)
    kernels = EmulatedKernels(library)

    def make_fused(stack: Stack, **_: Any) -> FusedEngine:
        return FusedEngine(stack, kernels, threads=64)

    monkeypatch.setattr(choice, "make_engine", make_fused)
    return library


@pytest.fixture
def prepared_processes(idle_processes: Processes, library: Path) -> Processes:
    """An API, and the environment of an emulated worker."""
    idle_processes.environment |= {
        "EMULATED_KERNELS": str(library),
        "DIGITLAB_COMMIT_SECONDS": "0.2",
        "DIGITLAB_LEASE_SECONDS": "2",
        "DIGITLAB_HEARTBEAT_SECONDS": "0.2",
    }
    idle_processes.start_api()
    return idle_processes


def start_worker(processes: Processes) -> int:
    """Start a worker with the emulated engine; returns its process id."""
    worker = processes.start("tests.workers.training.engines.emulated_worker")
    processes.workers.append(worker)
    processes.wait_for_workers()
    return worker.pid


def is_training(mark: Path) -> bool:
    """Whether a launch of several epochs is under way; the file may go at any moment."""
    with suppress(FileNotFoundError):
        return mark.read_text() == "train_epochs"
    return False


def kill_in_a_launch(worker: int, mark: Path) -> None:
    trainer = find_trainer(worker)
    assert trainer is not None
    wait_for(partial(is_training, mark))
    os.kill(trainer, signal.SIGKILL)
    wait_for(partial(has_ended, trainer))
    mark.unlink(missing_ok=True)  # the dead trainer's


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # nothing here depends on the database
def test_a_run_that_is_killed_in_launches_ends_with_the_bits_of_one_that_is_not(
    prepared_processes: Processes, library: Path
) -> None:
    processes, mark = prepared_processes, library.with_suffix(".launched")
    worker = start_worker(processes)
    run_id = processes.submit(RUN)
    moments, epoch = random.Random(3), 1
    for _ in range(NUM_KILLS):
        epoch = processes.wait_for_epoch(run_id, epoch)
        time.sleep(moments.uniform(0, 0.2))
        kill_in_a_launch(worker, mark)
    ended = processes.finish(run_id)
    assert ended["status"] == "succeeded"
    assert ended["provenance"]["engine"].startswith("fused ")
    assert processes.row(run_id).claim_number == NUM_KILLS + 1
    epochs = [row["epoch"] for row in processes.client.get(f"/runs/{run_id}/metrics").json()["data"]]
    assert epochs == [1, *range(10, 401, 10)]
    assert_as_if_alone(processes.client, run_id, RUN)
    processes.stop()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # nothing here depends on the database
def test_stacks_that_are_killed_in_a_launch_that_they_share_end_with_the_bits_of_each_alone(
    prepared_processes: Processes, library: Path
) -> None:
    """Three shapes are queued before the worker starts, which claims them together; after the kill, one at a time."""
    processes = prepared_processes
    documents = [{**RUN, "model": {**RUN["model"], "hidden_sizes": sizes}} for sizes in ([16, 12], [24], [40, 8])]
    run_ids = [processes.submit(document) for document in documents]
    worker = start_worker(processes)
    for run_id in run_ids:
        processes.wait_for_epoch(run_id, 1)
    kill_in_a_launch(worker, library.with_suffix(".launched"))
    rows = [processes.row(run_id) for run_id in run_ids]
    assert {row.claim_number for row in rows} == {1}
    for run_id, document in zip(run_ids, documents, strict=True):
        assert processes.finish(run_id)["status"] == "succeeded"
        assert processes.row(run_id).claim_number == 2
        assert_as_if_alone(processes.client, run_id, document)
    found = [[event for event in processes.events(run_id) if event["type"] == "started"] for run_id in run_ids]
    assert len({event["data"]["stack_id"] for started in found for event in started}) == 6
    assert {event["data"]["stack_size"] for started in found for event in started} == {1}
    processes.stop()
