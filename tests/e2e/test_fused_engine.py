"""kill -9 of the trainer in the middle of a launch of several epochs, with the CUDA engine emulated on a CPU."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
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


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)  # nothing here depends on the database
def test_a_run_that_is_killed_in_launches_ends_with_the_bits_of_one_that_is_not(
    idle_processes: Processes, library: Path
) -> None:
    processes, mark = idle_processes, library.with_suffix(".launched")
    processes.environment |= {
        "EMULATED_KERNELS": str(library),
        "DIGITLAB_COMMIT_SECONDS": "0.2",
        "DIGITLAB_LEASE_SECONDS": "2",
        "DIGITLAB_HEARTBEAT_SECONDS": "0.2",
    }
    processes.start_api()
    worker = processes.start("tests.workers.training.engines.emulated_worker")
    processes.workers.append(worker)
    processes.wait_for_workers()
    run_id = processes.submit(RUN)
    moments, epoch = random.Random(3), 1
    for _ in range(NUM_KILLS):
        epoch = processes.wait_for_epoch(run_id, epoch)
        time.sleep(moments.uniform(0, 0.2))
        trainer = find_trainer(worker.pid)
        assert trainer is not None
        wait_for(lambda: mark.exists() and mark.read_text() == "train_epochs")
        os.kill(trainer, signal.SIGKILL)
        wait_for(partial(has_ended, trainer))
        mark.unlink(missing_ok=True)  # the dead trainer's
    ended = processes.finish(run_id)
    assert ended["status"] == "succeeded"
    assert ended["provenance"]["engine"].startswith("fused ")
    assert processes.row(run_id).claim_number == NUM_KILLS + 1
    epochs = [row["epoch"] for row in processes.client.get(f"/runs/{run_id}/metrics").json()["data"]]
    assert epochs == [1, *range(10, 401, 10)]
    assert_as_if_alone(processes.client, run_id, RUN)
    processes.stop()
