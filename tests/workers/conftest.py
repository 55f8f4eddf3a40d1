"""The CUDA engine, emulated on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workers.training.engines.emulation import EmulatedKernels, build
from workers.training.engines import choice
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.stack import Stack


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[torch.dtype, EmulatedKernels]:
    """The CUDA engine's kernels on a CPU, by number type."""
    folder = tmp_path_factory.mktemp("emulated")
    return {dtype: EmulatedKernels(build(folder, dtype)) for dtype in (torch.float32, torch.float64)}


@pytest.fixture
def fused(emulated: dict[torch.dtype, EmulatedKernels], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train every stack by the CUDA engine, emulated."""

    def make_fused(stack: Stack, **_: Any) -> FusedEngine:
        return FusedEngine(stack, emulated[stack.parameters.dtype], threads=64)  # the fewest: quickest to emulate

    monkeypatch.setattr(choice, "make_engine", make_fused)
