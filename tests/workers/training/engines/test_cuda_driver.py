"""The CUDA engine's host side without a GPU: compilation, the cache of cubins, calls of the driver, the choice."""

from __future__ import annotations

import builtins
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.training.conftest import CPU, Digits
from tests.workers.training.engines import standin
from tests.workers.training.engines.emulation import FLAGS, HERE, EmulatedKernels, build, compiler
from workers.training.engines import choice, cuda_driver
from workers.training.engines.cuda_driver import ENGINES, SOURCE, CudaUnavailable
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.engines.torch_engine import BatchedEngine
from workers.training.stack import Stack

ROOT = Path(__file__).parents[4]


@pytest.fixture
def nvrtc() -> Any:
    """NVRTC, which torch's Linux wheels for CUDA bring along; without it the test is skipped, or fails in CI."""
    try:
        from cuda.bindings import nvrtc
    except ImportError:
        assert "CI" not in os.environ, "CI installs torch with CUDA"
        pytest.skip("cuda.bindings is not installed")
    return nvrtc


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    return folder


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("sm_90", torch.float32), ("sm_90", torch.float64), ("sm_80", torch.float32), ("sm_120", torch.float32)],
)
def test_nvrtc_compiles_the_kernels(architecture: str, dtype: torch.dtype) -> None:
    if (architecture, dtype) != ("sm_90", torch.float32) and "CI" not in os.environ:
        pytest.skip("takes seconds; CI=true runs it")
    cubin = cuda_driver.compile_cubin(architecture, dtype)
    assert cubin.startswith(b"\x7fELF")
    assert all(name.encode() in cubin for name in cuda_driver.KERNELS)


@pytest.mark.usefixtures("nvrtc")
@pytest.mark.parametrize(
    ("architecture", "option", "message"),
    [
        ("sm_12", "-DX", "NVRTC: NVRTC_ERROR_INVALID_OPTION"),
        ("sm_90", "-DJOB_BYTES=8", "cuda_plan.Job has another size"),
    ],
)
def test_what_nvrtc_cannot_compile_says_why(architecture: str, option: str, message: str) -> None:
    with pytest.raises(CudaUnavailable, match=message):
        cuda_driver.compile_cubin(architecture, torch.float32, option)


@pytest.mark.usefixtures("nvrtc")
def test_a_cubin_is_compiled_once_and_a_damaged_file_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_cubin(architecture: str, dtype: torch.dtype) -> bytes:
        compiled.append((architecture, dtype))
        return f"{architecture} {dtype}".encode()

    monkeypatch.setattr(cuda_driver, "compile_cubin", compile_cubin)
    for _ in range(2):
        assert cuda_driver.cached_cubin("sm_90", torch.float32) == b"sm_90 torch.float32"
    assert cuda_driver.cached_cubin("sm_80", torch.float32) == b"sm_80 torch.float32"
    assert cuda_driver.cached_cubin("sm_90", torch.float64) == b"sm_90 torch.float64"
    assert len(compiled) == len(list(cache.iterdir())) == 3
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert cuda_driver.cached_cubin("sm_90", torch.float32) == b"sm_90 torch.float32"
    assert len(compiled) == 4
    monkeypatch.setattr(cuda_driver, "DIGEST", "another")
    cuda_driver.cached_cubin("sm_90", torch.float32)
    assert len(compiled) == 5


@pytest.mark.usefixtures("nvrtc")
def test_without_a_writable_folder_a_cubin_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "folder"))
    monkeypatch.setattr(cuda_driver, "compile_cubin", lambda *_: b"cubin")
    assert cuda_driver.cached_cubin("sm_90", torch.float32) == b"cubin"


@pytest.mark.usefixtures("nvrtc", "cache")
def test_the_driver_is_called_as_it_wants(emulated: dict[torch.dtype, EmulatedKernels], tmp_path: Path) -> None:
    """A process trains beside a stand-in for libcuda, and has the weights of the emulation.

    The cubin comes from the cache: NVRTC does not run beside the stand-in.
    """
    cuda_driver.cached_cubin("sm_90", torch.float32)
    library = tmp_path / "libcuda.so.1"
    options = ["-O2", "-fPIC", "-shared", f'-DTRAIN_CU="{SOURCE}"', "-o", str(library), str(HERE / "standin.cpp")]
    subprocess.run([compiler(), *FLAGS, *options, "-ldl", "-lpthread"], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.workers.training.engines.standin", str(tmp_path / "parameters.npy")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"fused {cuda_driver.DIGEST}, NVRTC ")
    assert done.stdout.strip().endswith("sm_90")
    expected = standin.train(emulated[torch.float32])
    assert np.load(tmp_path / "parameters.npy").tobytes() == expected.parameters.numpy().tobytes()


def test_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(CudaUnavailable, match=r"compute capability 7\.5, and 8\.0 is needed"):
        cuda_driver._architecture(torch.device("cuda"))


@pytest.fixture(autouse=True)
def no_kernels_of_other_tests() -> Iterator[None]:
    choice._find_kernels.cache_clear()
    yield
    choice._find_kernels.cache_clear()


def test_kernels_that_cannot_be_launched_train_nothing(
    on_cuda: Stack, monkeypatch: pytest.MonkeyPatch, emulated: dict[torch.dtype, EmulatedKernels]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise cuda_driver.CudaError("CUDA says CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")

    monkeypatch.setattr(cuda_driver, "load_kernels", lambda _, dtype: emulated[dtype])
    monkeypatch.setattr(EmulatedKernels, "launch", refuse)
    assert isinstance(choice.make_engine(on_cuda), BatchedEngine)


@pytest.fixture
def on_cuda(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack on the CPU, of which the choice is told that it lies on a GPU."""
    monkeypatch.setattr(choice, "_place_of", lambda _: "cuda")
    return Stack.build([digits.member()], CPU)


def test_the_setting_chooses_the_engine_on_cuda(
    on_cuda: Stack, emulated: dict[torch.dtype, EmulatedKernels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_driver, "load_kernels", lambda _, dtype: emulated[dtype])
    assert isinstance(choice.make_engine(on_cuda), FusedEngine)
    assert isinstance(choice.make_engine(on_cuda, cuda_engine="batched"), BatchedEngine)
    for setting in ("auto", "fused"):
        engine = choice.make_engine(on_cuda, cuda_engine=setting)
        assert isinstance(engine, FusedEngine)
        assert engine.name == f"fused {cuda_driver.DIGEST}, emulated"


def test_without_cuda_bindings_one_line_is_logged_and_torch_trains(
    on_cuda: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import_module = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("cuda"):
            raise ImportError("No module named 'cuda'")
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with caplog.at_level(logging.INFO):
        engines = [choice.make_engine(on_cuda, cuda_engine="fused") for _ in range(3)]
    assert all(isinstance(engine, BatchedEngine) for engine in engines)
    (message,) = caplog.messages
    assert message.startswith("The fused CUDA engine is not available: cuda.bindings cannot be loaded")


@pytest.mark.parametrize(
    ("dtype", "code", "broken_code", "named"),
    [
        (torch.float32, "multiply_add(set.momentum, m[c], gradient);", "gradient;", "weights"),
        (torch.float64, "multiply_add(set.momentum, m[c], gradient);", "gradient;", "weights"),
        (torch.float32, "loss += one;", "loss += NAN;", "weights"),  # such a run ends
        (torch.float32, "shared[output.deltas_at + i / CLASSES", "shared[i / CLASSES", "logits"),
    ],
    ids=["no momentum", "no momentum, float64", "losses that are no numbers", "wrong logits"],
)
@pytest.mark.usefixtures("on_cuda")
def test_kernels_that_compute_something_else_train_nothing(
    digits: Digits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
    code: str,
    broken_code: str,
    named: str,
) -> None:
    """As may be on a GPU, or by a compiler, with which nobody has tried them."""
    texts = {each.name: each.read_text() for each in (SOURCE, *ENGINES.glob("*.cuh"))}
    assert any(code in text for text in texts.values())
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace(code, broken_code))
    broken = EmulatedKernels(build(tmp_path, dtype, source=tmp_path / SOURCE.name))
    monkeypatch.setattr(cuda_driver, "load_kernels", lambda *_: broken)
    stack = Stack.build([digits.member()], CPU, dtype)
    for _ in range(2):
        assert isinstance(choice.make_engine(stack), BatchedEngine)
    (message,) = caplog.messages
    assert message.startswith(f"The fused CUDA engine is not available: with sgd, {named} differ from those of torch")


def test_networks_that_are_too_wide_are_trained_by_torch(
    digits: Digits,
    on_cuda: Stack,
    emulated: dict[torch.dtype, EmulatedKernels],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cuda_driver, "load_kernels", lambda _, dtype: emulated[dtype])
    wide = Stack.build([digits.member(hidden_sizes=(512, 300))], CPU)
    assert isinstance(choice.make_engine(wide, cuda_engine="fused"), BatchedEngine)
    assert "Networks of 512-304 do not fit the fused CUDA engine" in caplog.text
    assert isinstance(choice.make_engine(on_cuda, cuda_engine="fused"), FusedEngine)


def test_only_the_fused_engine_shares_launches() -> None:
    for device in ("cpu", "cuda", "mps"):
        assert choice.find_shared_launches(torch.device(device), "batched") is None
    assert choice.find_shared_launches(torch.device("cpu"), "fused") is None
