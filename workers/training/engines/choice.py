"""Which engine computes a stack: the fastest one for its device, as far as it is there and the networks fit."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from workers.training.stack import Engine, Stack

if TYPE_CHECKING:
    from workers.training.engines.cuda_driver import Kernels

logger = logging.getLogger(__name__)

# What trains on CUDA: `batched` torch operations, `fused` kernels where they can be used, or the default, `auto`, which
# is `fused` now.
CudaEngine = Literal["auto", "fused", "batched"]


class SharedLaunches(NamedTuple):
    """What a device can train in one launch, of stacks of several shapes."""

    max_runs: int  # a multiprocessor for each, so that none waits for room, whatever shared memory another one needs
    max_bytes: int  # of memory


def find_shared_launches(device: torch.device, cuda_engine: CudaEngine) -> SharedLaunches | None:
    """What a device's stacks may share; None: its engine trains one stack after the other."""
    if device.type != "cuda" or cuda_engine == "batched":
        return None
    kernels = _find_kernels(torch.empty(0, device=device).device, torch.float32)  # cuda:0, as a stack's tensors say
    if kernels is None:
        return None
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return SharedLaunches(kernels.limits.num_multiprocessors, free_bytes // 2)  # other processes need some, too


def make_engine(
    stack: Stack, *, threads: int | None = None, is_compiled: bool = True, cuda_engine: CudaEngine = "auto"
) -> Engine:
    """Choose an engine for a stack's device, and make it.

    Args:
        stack: The stack on which the engine computes.
        threads: The number of threads that train at once on a CPU; None: one a core.
        is_compiled: False: never use Numba, as on a CPU where it is not installed.
        cuda_engine: On CUDA. `auto` and `fused` are the fused kernels where they can be had, compute what torch does,
            and the networks fit; else batched operations.
    """
    place = _place_of(stack)
    if place == "cuda" and cuda_engine != "batched":
        fused = _make_fused(stack)
        if fused is not None:
            return fused
    if place == "cpu" and is_compiled:
        # Imported here: Numba need not be installed, and the torch engine does without its slow import.
        try:
            from workers.training.engines.numba_engine import CompiledEngine
        except ImportError:
            pass
        else:
            return CompiledEngine(stack, threads)
    from workers.training.engines.torch_engine import BatchedEngine

    return BatchedEngine(stack)


def _place_of(stack: Stack) -> str:
    return stack.parameters.device.type


def _make_fused(stack: Stack) -> Engine | None:
    """The fused engine; None, with a line in the log, if this machine or the networks' size rules it out."""
    from workers.training.engines.cuda_engine import FusedEngine
    from workers.training.engines.cuda_plan import DoesNotFit

    kernels = _find_kernels(stack.parameters.device, stack.parameters.dtype)
    if kernels is None:
        return None
    try:
        return FusedEngine(stack, kernels)
    except DoesNotFit as error:
        widths = "-".join(map(str, stack.shape.layout.hidden_sizes))
        logger.warning("Networks of %s do not fit the fused CUDA engine: %s; torch trains them", widths, error)
        return None


@cache
def _find_kernels(device: torch.device, dtype: torch.dtype) -> Kernels | None:
    """The kernels for a device; None, with one line in the log of this process, if they cannot be had or are wrong."""
    from workers.training.engines.cuda_check import check_kernels
    from workers.training.engines.cuda_driver import CudaUnavailable, load_kernels

    try:
        kernels = load_kernels(device, dtype)
        check_kernels(kernels, device, dtype)
        return kernels
    except CudaUnavailable as error:
        logger.warning("The fused CUDA engine is not available: %s; torch trains on CUDA", error)
        return None
