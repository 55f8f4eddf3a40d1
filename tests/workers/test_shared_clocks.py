"""Progress within an epoch: a trainer in a long epoch is not taken for a stuck one."""

from __future__ import annotations

import multiprocessing
import threading
import time

import numpy as np
import pytest
import torch

from workers import shared_clocks as pulse_module
from workers.shared_clocks import Pulse
from workers.training.config import MlpConfig, OptimizerConfig
from workers.training.loop import StackTraining
from workers.training.stack import Member
from workers.training.tensors import ImageTensors, SplitIndices


def make_training(num_images: int, *, is_compiled: bool) -> StackTraining:
    """Make a training with batches of one image, so that an epoch has as many steps as images."""
    data = ImageTensors(torch.zeros(num_images, 64), torch.zeros(num_images, dtype=torch.int64))
    indices = np.arange(num_images, dtype=np.int32)
    config = MlpConfig(0, (32,), "tanh", 0.0, OptimizerConfig("adam", 0.01), 1, 2, 1)
    member = Member(config, data, SplitIndices(indices, indices[:1], indices[:1]))
    return StackTraining([member], torch.device("cpu"), is_compiled=is_compiled)


@pytest.mark.parametrize("is_compiled", [True, False])
def test_an_engine_counts_steps_while_its_epoch_goes_on(is_compiled: bool) -> None:
    training = make_training(6000 if is_compiled else 400, is_compiled=is_compiled)
    seen = set()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            seen.add(training.num_done)
            time.sleep(0)

    looking = threading.Thread(target=look)
    looking.start()
    training.run_epoch()
    is_over.set()
    looking.join()
    assert training.num_done >= len(training.stack.rows["train"][0]) + 2  # two evaluations count too
    assert len(seen) > 3


def test_what_counts_on_is_progress_and_what_stands_still_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse_module, "FOLLOW_SECONDS", 0.001)
    pulse = Pulse(multiprocessing.get_context("spawn"))
    marks: list[int] = []
    count, num_looks = 0, 0
    monkeypatch.setattr(pulse, "mark_progress", lambda: marks.append(count))

    def read() -> int:
        nonlocal num_looks
        num_looks += 1
        return count

    def let_it_look() -> None:
        enough = num_looks + 3
        while num_looks < enough:
            time.sleep(0.001)

    with pulse.following(read):
        for number in range(3):
            let_it_look()
            assert len(marks) == number
            count += 1
            let_it_look()
            assert len(marks) == number + 1
