"""A worker whose trainer computes by the CUDA engine, emulated: `python -m` this module, with EMULATED_KERNELS set.

The variable names the library that `emulation.build` has made. Trainers are forked from this process, so they have the
engine too. A file beside the library is there as long as a launch is under way.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.workers.training.engines.emulation import H100, EmulatedKernels
from workers.__main__ import main
from workers.training.engines import choice
from workers.training.engines.choice import SharedLaunches
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.stack import Stack


class MarkedKernels(EmulatedKernels):
    """Kernels that leave a file as long as a launch is under way."""

    def __init__(self, library: Path) -> None:
        super().__init__(library)
        self._mark = library.with_suffix(".launched")

    def launch(self, name: str, jobs: Tensor, **options: Any) -> None:
        self._mark.write_text(name)
        super().launch(name, jobs, **options)
        self._mark.unlink()


def make_fused(stack: Stack, **_: Any) -> FusedEngine:
    return FusedEngine(stack, MarkedKernels(Path(os.environ["EMULATED_KERNELS"])), threads=64)


def find_shared_launches(device: torch.device, cuda_engine: choice.CudaEngine) -> SharedLaunches:  # noqa: ARG001
    return SharedLaunches(H100.num_multiprocessors, 2**30)


if __name__ == "__main__":
    choice.make_engine = make_fused
    choice.find_shared_launches = find_shared_launches
    sys.exit(main("fork"))
