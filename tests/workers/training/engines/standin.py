"""Trains a small stack by `cuda_driver.LoadedKernels`, beside the stand-in for libcuda; see test_cuda_driver.py.

python -m tests.workers.training.engines.standin FILE  writes the parameters to a file.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.workers.training.conftest import CPU, Digits
from tests.workers.training.engines.test_cuda_engine import all_due, few, make_members
from workers.training.data import load_dataset, to_image_tensors
from workers.training.engines.cuda_driver import Kernels, LoadedKernels
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.stack import Decisions, Stack


def train(kernels: Kernels) -> Stack:
    pixels, labels = load_dataset("digits")
    digits = Digits(pixels, labels, {"unit": to_image_tensors(pixels, labels, "unit")})
    stack = Stack.build(make_members(digits, (12, 20), split=few(digits), batch_size=20), CPU)
    FusedEngine(stack, kernels).train_epochs(range(3), 1, all_due(3), [Decisions()] * 3)
    return stack


def pretend() -> None:
    """Answer for torch.cuda what it would say of a GPU, so that the driver's code runs on the CPU's memory."""
    stream = SimpleNamespace(cuda_stream=0)
    answers: dict[str, Any] = {
        "current_stream": lambda *_: stream,
        "current_device": lambda: 0,
        "get_device_capability": lambda _: (9, 0),
        "device": lambda _: nullcontext(),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, answer)


if __name__ == "__main__":
    pretend()
    kernels = LoadedKernels(CPU, torch.float32)
    assert kernels.limits.num_multiprocessors == 132
    np.save(sys.argv[1], train(kernels).parameters.numpy())
    print(kernels.description)
