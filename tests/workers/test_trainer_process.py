"""The modules and kernels that a worker's fork server loads before it forks trainers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# The script runs in a process of its own, because pytest has loaded torch already.
PRELOAD = """
import builtins
import json
import os
import sys

from app.settings import Settings
from workers import trainer_process

light = sorted({"torch", "numpy"} & set(sys.modules))
sys.modules["torchvision"] = None  # an import of it fails


def refuse(*_):
    raise AssertionError("a call of CUDA before the fork")


def import_without_cuda(name, *arguments, **options):
    if name == "workers" and "workers.trainer" not in sys.modules:
        torch = import_module("torch")
        for function in ("_cuda_init", "_cuda_getDeviceCount", "_cuda_getDevice"):
            if hasattr(torch._C, function):
                setattr(torch._C, function, refuse)
    return import_module(name, *arguments, **options)


import_module = builtins.__import__
builtins.__import__ = import_without_cuda
was_loaded = "workers.trainer" in sys.modules
trainer_process._preload(Settings())
import torch

from workers.training.engines.numba_engine import evaluate_runs, train_runs, write_logits

print(json.dumps({
    "light": light,
    "trainer": not was_loaded and "workers.trainer" in sys.modules,
    "compiled": [len(kernel.signatures) for kernel in (train_runs, evaluate_runs, write_logits)],
    "cuda": torch.cuda.is_initialized(),
    "threads": len(os.listdir("/proc/self/task")),
    "torch_threads": torch.get_num_threads(),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
def test_the_trainer_is_loaded_and_compiled_before_the_fork_by_one_thread_without_cuda() -> None:
    done = subprocess.run([sys.executable, "-c", PRELOAD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["light"] == [], "the worker's parent process would load it too"
    assert found["trainer"]
    assert min(found["compiled"]) >= 1
    assert not found["cuda"]
    assert found["torch_threads"] == 1
    assert found["threads"] == 1, "a library has started one"
