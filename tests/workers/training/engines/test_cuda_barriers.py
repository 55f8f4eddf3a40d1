"""Races in the CUDA engine's kernels: each barrier is needed, and ThreadSanitizer sees none.

Launches are recorded and replayed by a program of their own (`replay.cpp`), which may crash without harm.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import Tensor

from tests.workers.training.conftest import CPU, Digits
from tests.workers.training.engines.emulation import FLAGS, H100, HERE, compiler
from tests.workers.training.engines.test_cuda_engine import ADAM, SGD, WARPED, all_due, few, make_members
from workers.training.engines.cuda_driver import ENGINES
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.engines.cuda_plan import POINTERS, Job
from workers.training.stack import Decisions, Stack

SEEDS = ("0", "1", "2", "3", "4", "5")
BARRIER = "__syncthreads();"
# The barriers of the step; ThreadSanitizer must see each of them missing.
STEP_BARRIERS = ("(2)", "(3)", "(4)", "(5)")


class Recorder:
    """Kernels that compute nothing, and write each launch with all memory that it points to into a file."""

    description = "recorded"
    limits = H100

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def launch(self, name: str, jobs: Tensor, *, blocks: int, num_jobs: int, threads: int, shared_bytes: int) -> None:
        assert num_jobs == 1
        sizes: dict[int, int] = {}
        for tensor in gc.get_objects():
            if type(tensor) is Tensor:  # isinstance would look into lazily loaded modules
                sizes[tensor.data_ptr()] = max(sizes.get(tensor.data_ptr(), 0), tensor.nbytes)
        raw = jobs.numpy().tobytes()
        job = Job.from_buffer_copy(raw)
        addresses = [getattr(job, pointer) or 0 for pointer in POINTERS]
        arrays = [ctypes.string_at(address, sizes[address]) if address else b"" for address in addresses]
        parts = [name.encode(), struct.pack("iii", blocks, threads, shared_bytes), raw, *arrays]
        path = self.folder / f"{len(self.files)}-{name}"
        path.write_bytes(b"".join(struct.pack("Q", len(part)) + part for part in parts))
        self.files.append(path)


@pytest.fixture(scope="module")
def launches(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A launch of each kernel on each path: several chunks of a batch, a full batch, one layer, copies, dropout."""
    recorder = Recorder(tmp_path_factory.mktemp("launches"))
    split = few(digits, num_train=103, num_val=40)
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((12, 20), {"batch_size": 20, "optimizer": ADAM, "augmentation": WARPED}),
        ((12, 12), {"batch_size": 50, "optimizer": SGD}),
        ((16,), {"batch_size": None, "optimizer": SGD}),
        ((), {"batch_size": 20, "optimizer": SGD}),
    ]
    for hidden_sizes, changes in cases:
        (_, member, _) = make_members(digits, hidden_sizes, split=split, dropout=0.25, **changes)
        stack = Stack.build([member], CPU)
        engine = FusedEngine(stack, recorder, threads=64)
        engine.train_epochs([0], 1, all_due(1, 3), [Decisions()] * 1)
    engine.evaluate([0], "val")
    engine.logits(0, stack.parameters[0], "train")
    return recorder.files


def build_replay(folder: Path, *options: str, source: Path = ENGINES / "train.cu") -> Path:
    program = folder / "replay"
    command = [compiler(), *FLAGS, *options, f'-DTRAIN_CU="{source}"', "-o", str(program), str(HERE / "replay.cpp")]
    subprocess.run([*command, "-lpthread"], check=True)
    return program


def replay(program: Path, launch: Path, *seeds: str) -> list[str] | None:
    """The digests of a launch for each seed; None: it crashed, or its threads parted at a barrier."""
    done = subprocess.run([program, launch, *seeds], capture_output=True, text=True, timeout=120)
    return done.stdout.split() if done.returncode == 0 else None


class Barrier(NamedTuple):
    file: Path
    place: int  # of its text in the file
    function: str
    line: int


def find_barriers() -> Iterator[Barrier]:
    for file in (ENGINES / "train.cu", *sorted(ENGINES.glob("*.cuh"))):
        source = file.read_text()
        for found in re.finditer(re.escape(BARRIER), source):
            before = source[: found.start()]
            function = re.findall(r"^(?:__device__|extern).*?(\w+)\(", before, re.M)[-1]
            yield Barrier(file, found.start(), function, before.count("\n") + 1)


BARRIERS = list(find_barriers())


def without(barrier: Barrier, folder: Path) -> Path:
    """A copy of the kernels' source that lacks a barrier."""
    for file in (ENGINES / "train.cu", *ENGINES.glob("*.cuh")):
        shutil.copy(file, folder)
    source = barrier.file.read_text()
    end = barrier.place + len(BARRIER)
    (folder / barrier.file.name).write_text(f"{source[: barrier.place]};{source[end:]}")
    return folder / "train.cu"


@pytest.fixture(scope="module")
def expected(launches: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Each launch's digest, the same for every order of the threads."""
    program = build_replay(tmp_path_factory.mktemp("replay"), "-O1")
    digests = {}
    for launch in launches:
        found = replay(program, launch, *SEEDS)
        assert found is not None
        assert len(found) == len(SEEDS)
        assert len(set(found)) == 1, "the order of the threads changes the result"
        digests[launch] = found[0]
    return digests


def test_the_order_of_the_threads_changes_nothing(expected: dict[Path, str]) -> None:
    assert len(set(expected.values())) == len(expected)


@pytest.mark.skipif("CI" not in os.environ, reason="takes a minute; CI=true runs it")
@pytest.mark.parametrize("barrier", BARRIERS, ids=lambda each: f"{each.file.name}-{each.line}-{each.function}")
def test_a_missing_barrier_is_noticed(
    barrier: Barrier, launches: list[Path], expected: dict[Path, str], tmp_path: Path
) -> None:
    """Some order of the threads changes a result, or the program crashes."""
    program = build_replay(tmp_path, "-O1", source=without(barrier, tmp_path))
    results = {launch: replay(program, launch, *SEEDS) for launch in launches}
    assert any(found is None or set(found) != {expected[launch]} for launch, found in results.items())


SANITIZED = ("-g", "-O1", "-fsanitize=thread", "-DEMULATE_THREADS")


def report_of(program: Path, launch: Path) -> str:
    """What ThreadSanitizer says of a launch on real threads."""
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=0 exitcode=0"}
    # Its shadow memory needs addresses that some kernels randomize: https://github.com/google/sanitizers/issues/1716
    command = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*command, str(program), str(launch), "1"], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.stdout.strip(), done.stderr
    return done.stderr


def test_thread_sanitizer_reports_no_race(launches: list[Path], tmp_path: Path) -> None:
    program = build_replay(tmp_path, *SANITIZED)
    for launch in launches:
        assert "ThreadSanitizer" not in report_of(program, launch)


@pytest.mark.parametrize("number", STEP_BARRIERS)
def test_thread_sanitizer_sees_a_missing_barrier(number: str, launches: list[Path], tmp_path: Path) -> None:
    source = (ENGINES / "train.cu").read_text()
    barrier = next(each for each in BARRIERS if source[each.place :].startswith(f"{BARRIER}  // {number}"))
    program = build_replay(tmp_path, *SANITIZED, source=without(barrier, tmp_path))
    # A report is dropped where the other thread's stack can no longer be found: about one replay in ten has none.
    reports = (report_of(program, launch) for _ in range(4) for launch in launches[:2])
    assert any("ThreadSanitizer: data race" in report for report in reports)
