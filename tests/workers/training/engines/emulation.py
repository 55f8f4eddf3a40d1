"""The CUDA engine's kernels on a CPU: `train.cu`, compiled by g++ with `emulate.h` in place of a GPU."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from workers.training.engines.cuda_driver import DIGEST, SOURCE
from workers.training.engines.cuda_plan import Limits

HERE = Path(__file__).parent
H100 = Limits(231_216, 228 * 1024, num_multiprocessors=132, kernel_bytes=1232)
# fma() is an instruction, as on a GPU; nothing else is fused. A fortified longjmp would not change to another fiber.
FLAGS = ("-std=c++17", "-march=native", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-U_FORTIFY_SOURCE")


class EmulatedKernels:
    """Kernels on a CPU; see `cuda_driver.Kernels`. `seed` orders the threads of a block: 0 as they are numbered."""

    description = f"fused {DIGEST}, emulated"

    def __init__(self, library: Path, *, limits: Limits = H100, seed: int = 1) -> None:
        self.limits = limits
        self.seed = seed
        self.library = ctypes.CDLL(str(library))

    def launch(self, name: str, jobs: Tensor, *, blocks: int, num_jobs: int, threads: int, shared_bytes: int) -> None:
        assert shared_bytes <= self.limits.block_bytes
        pointer = ctypes.c_void_p(jobs.data_ptr())
        error = self.library.launch(name.encode(), pointer, blocks, num_jobs, threads, shared_bytes, self.seed)
        assert error == 0, f"the emulation of {name} ended with {error}"


def compiler() -> str:
    """g++; without it the test is skipped, or fails in CI."""
    found = shutil.which("g++")
    if found is None:
        assert "CI" not in os.environ, ".ci/run installs g++"
        pytest.skip("g++ is not installed")
    return found


def build(
    folder: Path, dtype: torch.dtype, *, source: Path = SOURCE, options: Sequence[str] = ("-O3", "-fPIC", "-shared")
) -> Path:
    """Compile the kernels for a number type; returns the library, or what the options make of it."""
    target = folder / f"emulated_{str(dtype).removeprefix('torch.')}.so"
    defined = [f'-DTRAIN_CU="{source}"', *(["-DIS_DOUBLE"] if dtype == torch.float64 else [])]
    command = [compiler(), *FLAGS, *options, *defined, "-o", str(target), str(HERE / "emulated.cpp"), "-lpthread"]
    subprocess.run(command, check=True)
    return target
