"""Compiles `train.cu` by NVRTC and launches its kernels through the driver; torch's CUDA wheels bring both along.

NVRTC needs no GPU and no CUDA toolkit. A compilation takes two to eight seconds and serves stacks of all shapes; the
machine code (a cubin) is kept on disk, beside Numba's.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from workers.training.engines.cuda_plan import MAX_REGISTERS, Job, Limits

ENGINES = Path(__file__).parent
SOURCE = ENGINES / "train.cu"
# The version of the kernels, in a run's provenance and in the cache's file names.
DIGEST = sha256(b"".join(each.read_bytes() for each in [SOURCE, *sorted(ENGINES.glob("*.cuh"))])).hexdigest()[:12]
KERNELS = ("train_epochs", "evaluate_runs", "write_logits")
MIN_CAPABILITY = (8, 0)  # cp.async, https://docs.nvidia.com/cuda/parallel-thread-execution/


class CudaUnavailable(Exception):
    """The kernels cannot be compiled or launched on this machine; the message says why."""


class CudaError(RuntimeError):
    """A call of the driver or of NVRTC failed."""


class Kernels(Protocol):
    """The kernels of `train.cu` for one number type, ready to be launched on one device."""

    description: str  # version of the source, compiler and architecture, as far as bits depend on them
    limits: Limits

    def launch(self, name: str, jobs: Tensor, *, blocks: int, num_jobs: int, threads: int, shared_bytes: int) -> None:
        """Queue a kernel.

        Args:
            name: One of `KERNELS`.
            jobs: The bytes of `Job`s, on the device.
            blocks: Of each job, at most.
            num_jobs: How many jobs there are.
            threads: Of a block.
            shared_bytes: Of a block, at most `limits.block_bytes`.
        """


class LoadedKernels:
    """Kernels on a GPU, launched in torch's current stream.

    Args:
        device: The GPU.
        dtype: The number type.
        options: Further ones of NVRTC.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *options: str) -> None:
        from cuda.bindings import driver

        self._driver = driver
        architecture = _architecture(device)
        self.description = f"fused {DIGEST}, NVRTC {nvrtc_version()}, {architecture}"
        with torch.cuda.device(device):
            torch.zeros(1, device=device)  # torch makes its context the current one
            self._module = _check(driver.cuModuleLoadData(cached_cubin(architecture, dtype, *options)))
            self._functions = {
                name: _check(driver.cuModuleGetFunction(self._module, name.encode())) for name in KERNELS
            }
            self.limits = self._find_limits(device.index or torch.cuda.current_device())
            allowed = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            for function in self._functions.values():
                _check(driver.cuFuncSetAttribute(function, allowed, self.limits.block_bytes))

    def launch(self, name: str, jobs: Tensor, *, blocks: int, num_jobs: int, threads: int, shared_bytes: int) -> None:
        stream = torch.cuda.current_stream(jobs.device).cuda_stream
        arguments = ((jobs.data_ptr(),), (ctypes.c_void_p,))
        _check(
            self._driver.cuLaunchKernel(
                self._functions[name], blocks, num_jobs, 1, threads, 1, 1, shared_bytes, stream, arguments, 0
            )
        )

    def attribute(self, kernel: str, name: str) -> int:
        """An attribute of a kernel, such as NUM_REGS or LOCAL_SIZE_BYTES."""
        attribute = getattr(self._driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(_check(self._driver.cuFuncGetAttribute(attribute, self._functions[kernel])))

    def blocks_per_multiprocessor(self, kernel: str, threads: int, shared_bytes: int) -> int:
        occupancy = self._driver.cuOccupancyMaxActiveBlocksPerMultiprocessor
        return int(_check(occupancy(self._functions[kernel], threads, shared_bytes)))

    def _find_limits(self, index: int) -> Limits:
        attributes = self._driver.CUdevice_attribute

        def of_device(name: str) -> int:
            attribute = getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}")
            return int(_check(self._driver.cuDeviceGetAttribute(attribute, index)))

        own_bytes = max(self.attribute(name, "SHARED_SIZE_BYTES") for name in KERNELS)
        return Limits(
            of_device("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN") - own_bytes,
            of_device("MAX_SHARED_MEMORY_PER_MULTIPROCESSOR"),
            of_device("MULTIPROCESSOR_COUNT"),
            own_bytes,
        )


def load_kernels(device: torch.device, dtype: torch.dtype) -> Kernels:
    """Load the kernels onto a GPU, from the cache or after a compilation.

    Raises:
        CudaUnavailable: The packages or the GPU do not support them.
    """
    try:
        return LoadedKernels(device, dtype)
    except ImportError as error:
        raise CudaUnavailable(f"cuda.bindings cannot be loaded ({error})") from error
    except CudaError as error:
        raise CudaUnavailable(str(error)) from error


def compile_cubin(architecture: str, dtype: torch.dtype, *options: str) -> bytes:
    """Machine code of the kernels for an architecture, such as sm_90; this needs no GPU.

    Raises:
        CudaUnavailable: NVRTC does not know the architecture, or cannot compile.
    """
    from cuda.bindings import nvrtc

    program = _check(nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), SOURCE.name.encode(), 0, [], []))
    flags = [flag.encode() for flag in _flags(architecture, dtype, *options)]
    try:
        (error,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        if int(error) != 0:
            log = b" " * _check(nvrtc.nvrtcGetProgramLogSize(program))
            _check(nvrtc.nvrtcGetProgramLog(program, log))
            raise CudaUnavailable(f"NVRTC: {error.name}: {log.rstrip(b' ' + bytes(1)).decode()}")
        cubin: bytes = b" " * _check(nvrtc.nvrtcGetCUBINSize(program))
        _check(nvrtc.nvrtcGetCUBIN(program, cubin))
        return cubin
    finally:
        _check(nvrtc.nvrtcDestroyProgram(program))


def cached_cubin(architecture: str, dtype: torch.dtype, *options: str) -> bytes:
    """The cubin, from disk if this version was compiled before; a damaged file is not used.

    Raises:
        CudaUnavailable: See `compile_cubin`.
    """
    key = " ".join([DIGEST, nvrtc_version(), *_flags(architecture, dtype, *options)])
    name = f"train-{architecture}-{sha256(key.encode()).hexdigest()[:24]}.cubin"
    for folder in _cache_folders():
        with suppress(OSError):
            digest, cubin = _split((folder / name).read_bytes())
            if sha256(cubin).digest() == digest:
                return cubin
    cubin = compile_cubin(architecture, dtype, *options)
    for folder in _cache_folders():
        with suppress(OSError):
            _write(folder, name, sha256(cubin).digest() + cubin)
            break
    return cubin


def nvrtc_version() -> str:
    from cuda.bindings import nvrtc

    return ".".join(map(str, _check(nvrtc.nvrtcVersion())))


def _flags(architecture: str, dtype: torch.dtype, *options: str) -> list[str]:
    return [
        f"--gpu-architecture={architecture}",
        "--std=c++17",
        "--device-as-default-execution-space",  # for lambdas
        "--fmad=false",  # the source says which multiply-adds are fused
        f"--maxrregcount={MAX_REGISTERS}",
        f"--include-path={ENGINES}",
        f"-DJOB_BYTES={ctypes.sizeof(Job)}",
        *(["-DIS_DOUBLE"] if dtype == torch.float64 else []),
        *options,
    ]


def _architecture(device: torch.device) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < MIN_CAPABILITY:
        needed = ".".join(map(str, MIN_CAPABILITY))
        raise CudaUnavailable(f"the GPU has compute capability {major}.{minor}, and {needed} is needed")
    return f"sm_{major}{minor}"


def _cache_folders() -> list[Path]:
    """Where cubins are kept, the preferred folder first: as Numba does it."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(chosen)]
    return [ENGINES / "__pycache__", Path.home() / ".cache" / "digitlab"]


def _split(content: bytes) -> tuple[bytes, bytes]:
    return content[:32], content[32:]


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file at once: another process sees all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(content)
    Path(file.name).replace(folder / name)


def _check(result: tuple[Any, ...]) -> Any:
    """The values of a call of cuda.bindings.

    Raises:
        CudaError: It failed.
    """
    error, *values = result
    if int(error) != 0:
        raise CudaError(f"CUDA says {error.name}")
    return values[0] if len(values) == 1 else tuple(values)
