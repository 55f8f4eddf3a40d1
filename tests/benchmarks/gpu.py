"""What the CUDA engine does on a GPU: is it right, and how fast. Run by hand, where there is a GPU:

    python -m tests.benchmarks.gpu                     # at most eight minutes, the most important parts first
    python -m tests.benchmarks.gpu --only grid speed
    python -m tests.benchmarks.gpu --emulated          # without a GPU: the same code on emulated kernels, tiny

Each part is a process of its own with a time limit; a part that fails or takes too long does not end the others. Its
result is written to a folder (`--out`) at once. At the end one text, `gpu.md`, holds them all, as it may be put into
docs/benchmarks.md. Neither FastAPI nor SQLAlchemy is needed, except for the part `service`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from workers.training.config import MlpConfig, OptimizerConfig
from workers.training.data import load_dataset, split_indices, to_image_tensors
from workers.training.engines.choice import make_engine
from workers.training.engines.cuda_check import check_kernels
from workers.training.engines.cuda_driver import KERNELS, Kernels, LoadedKernels, compile_cubin
from workers.training.engines.cuda_engine import FusedEngine, Part, train_together
from workers.training.engines.cuda_plan import DoesNotFit
from workers.training.layout import Layout
from workers.training.loop import StackTraining
from workers.training.side_by_side import SideBySideTraining
from workers.training.stack import ACTIVATIONS, Decisions, Member, Stack
from workers.training.tensors import SplitIndices

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TOTAL_SECONDS = 480
MARGIN_SECONDS = 5
BATCH_SIZE = 20
STATE = ("parameters", "gradients", "first", "second", "best")

# hidden_sizes, batch_size, dropout, optimizer
Case = tuple[tuple[int, ...], int | None, float, str]
CASES: dict[str, Case] = {
    "12-12": ((12, 12), 20, 0.0, "sgd"),
    "12-12, dropout": ((12, 12), 20, 0.25, "sgd"),
    "24-24, Adam, dropout": ((24, 24), 20, 0.25, "adam"),
    "52-52": ((52, 52), 20, 0.0, "sgd"),
    "52-52, batch 100, Adam, dropout": ((52, 52), 100, 0.25, "adam"),
    "52-52, full batch": ((52, 52), None, 0.0, "sgd"),
    "no hidden layer": ((), 20, 0.0, "sgd"),
    "5, batch 7": ((5,), 7, 0.0, "sgd"),
    "40-16-3-33, batch 50, Adam": ((40, 16, 3, 33), 50, 0.1, "adam"),
    "12-20, batch 1, Adam, dropout": ((12, 20), 1, 0.3, "adam"),
    "128-64": ((128, 64), 20, 0.0, "sgd"),
    "256": ((256,), 20, 0.0, "sgd"),
}
WIDTHS, RATES = (12, 16, 32, 50), (0.005, 0.01, 0.03, 0.05, 0.1, 0.3)
SWEEP: dict[str, Any] = {  # the same 48 configurations, as a request
    "base": {
        "model": {"dropout": 0.0},
        "scaling": "byte",
        "training": {"epochs": 800, "batch_size": BATCH_SIZE, "evaluate_every": 1},
    },
    "search": {"kind": "grid"},
    "parameters": {
        "model.hidden_sizes": [[width, width] for width in WIDTHS],
        "model.activation": ["relu", "sigmoid"],
        "training.optimizer.learning_rate": list(RATES),
    },
}
SHAPES = {"12-12": (12, 12), "24-24": (24, 24), "52-52": (52, 52), "128-64": (128, 64)}


class Environment:
    """Where a part runs: on a GPU, or on emulated kernels, with less work."""

    def __init__(self, *, is_emulated: bool, seconds: float, out: Path) -> None:
        self.is_emulated = is_emulated
        self.out = out
        self.device = CPU if is_emulated else torch.device("cuda")
        self._deadline = time.monotonic() + seconds
        pixels, labels = load_dataset("digits")
        self.tensors = to_image_tensors(pixels, labels, "byte")
        whole = split_indices(labels, val_size=0.3, test_size=0.0, seed=20231110)
        few = SplitIndices(whole.train[:203], whole.val[:90], whole.test)
        self.split = few if is_emulated else whole

    @property
    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def kernels(self, dtype: torch.dtype = torch.float32) -> Kernels:
        return self._kernels[dtype]

    @cached_property
    def _kernels(self) -> dict[torch.dtype, Kernels]:
        dtypes = (torch.float32, torch.float64)
        if self.is_emulated:
            return dict(emulate())
        return {dtype: LoadedKernels(self.device, dtype) for dtype in dtypes}

    def member(self, case: Case, activation: str = "tanh", seed: int = 3, rate: float | None = None) -> Member:
        hidden_sizes, batch_size, dropout, kind = case
        optimizer = OptimizerConfig(kind, rate or (0.01 if kind == "sgd" else 0.001), momentum=0.9)  # type: ignore[arg-type]
        config = MlpConfig(seed, hidden_sizes, activation, dropout, optimizer, batch_size, 10**6, 1)  # type: ignore[arg-type]
        return Member(config, self.tensors, self.split)

    def stack(self, members: Sequence[Member], dtype: torch.dtype = torch.float32) -> Stack:
        ordered = sorted(members, key=lambda member: ACTIVATIONS.index(member.config.activation))
        return Stack.build(ordered, self.device, dtype)

    def wait(self) -> None:
        if not self.is_emulated:
            torch.cuda.synchronize()

    def time(self, function: Callable[..., object], *arguments: Any, **options: Any) -> float:
        """The seconds that a call takes, until the device has done all of it."""
        self.wait()
        started = time.perf_counter()
        function(*arguments, **options)
        self.wait()
        return time.perf_counter() - started


def emulate() -> Iterator[tuple[torch.dtype, Kernels]]:
    from tests.workers.training.engines.emulation import EmulatedKernels, build

    folder = Path(tempfile.mkdtemp(prefix="digitlab-emulated-"))
    try:
        for dtype in (torch.float32, torch.float64):
            yield dtype, EmulatedKernels(build(folder, dtype))
    finally:
        shutil.rmtree(folder)


def train_all(engine: FusedEngine, size: int, first: int, epochs: int, *, evaluates: bool) -> Any:
    dues = np.full((size, epochs), evaluates)
    return engine.train_epochs(range(size), first, dues, [Decisions()] * size)


Rows = Iterable[str]  # of a part's result: lines of Markdown


def versions(where: Environment) -> Rows:
    """Versions, the GPU, what NVRTC makes of the kernels."""
    rows = [f"torch {torch.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}"]
    if not where.is_emulated:
        query = "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.draw"
        found = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True)
        rows.append(found.stdout.strip() or torch.cuda.get_device_name())
        major, minor = torch.cuda.get_device_capability()
        for dtype in (torch.float32, torch.float64):
            seconds = where.time(compile_cubin, f"sm_{major}{minor}", dtype)
            rows.append(f"NVRTC compiles {dtype} in {seconds:.2f} s")
    for dtype in (torch.float32, torch.float64):
        kernels = where.kernels(dtype)
        rows.append(f"{dtype}: {kernels.description}; {kernels.limits}")
        if isinstance(kernels, LoadedKernels):
            for kernel in KERNELS:
                attributes = ("NUM_REGS", "LOCAL_SIZE_BYTES", "SHARED_SIZE_BYTES")
                rows.append(
                    f"{kernel}: " + ", ".join(f"{each} {kernels.attribute(kernel, each)}" for each in attributes)
                )
    return rows


def correctness(where: Environment) -> Rows:
    """Three epochs against the CPU in float64, from the same weights, with the same order and dropout."""
    rows = []
    for dtype in (torch.float32, torch.float64):
        seconds = where.time(check_kernels, where.kernels(dtype), where.device, dtype)
        rows.append(f"the trainer's own check of {dtype} passes after {seconds:.2f} s")
    rows += ["", "| network | type | weights | gradients | momenta, means | losses, relative | counts that differ |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name, case in list(CASES.items())[: 4 if where.is_emulated else None]:
        members = [where.member(case, activation, 3 + number) for number, activation in enumerate(ACTIVATIONS)]
        slots, epochs = range(len(members)), 3
        reference = Stack.build(members, CPU, torch.float64)
        engine = make_engine(reference)
        expected: list[Any] = [
            (engine.train(slots, epoch), engine.evaluate(slots, "train"), engine.evaluate(slots, "val"))
            for epoch in range(1, epochs + 1)
        ]
        for dtype in (torch.float64, torch.float32):
            stack = where.stack(members, dtype)
            try:
                fused = FusedEngine(stack, where.kernels(dtype))
            except DoesNotFit as error:
                rows.append(f"| {name} | {str(dtype)[6:]} | {error} | | | | |")
                continue
            found = train_all(fused, len(members), 1, epochs, evaluates=True)
            errors = [
                float((getattr(stack, field).double().cpu() - getattr(reference, field)).abs().max())
                for field in ("parameters", "gradients", "first")
            ]
            losses, corrects = [], []
            for number, tallies in enumerate(expected):
                for mine, theirs in zip((found.seen, found.train, found.val), tallies, strict=True):
                    losses.append(np.abs(mine.losses[:, number] / theirs.losses - 1).max())
                    corrects.append(np.abs(mine.corrects[:, number] - theirs.corrects).max())
            texts = [f"{error:.0e}" for error in (*errors, max(losses))]
            rows.append(f"| {name} | {str(dtype)[6:]} | {' | '.join(texts)} | {max(corrects)} |")
    return rows


def bits(where: Environment) -> Rows:
    """A run's bits in other slots, stacks, launches; and beside the emulation on this machine's CPU."""
    case = CASES["24-24, Adam, dropout"]
    (one,) = [where.member(case)]
    strangers = [
        where.member(((17 + n % 16, 20 + n % 13), 20, (0.0, 0.5)[n % 2], "adam"), ACTIVATIONS[n % 3], 100 + n)
        for n in range(8 if where.is_emulated else 300)
    ]

    def train(members: Sequence[Member], launches: Sequence[int] = (3,), **options: Any) -> bytes:
        stack = where.stack(members)
        engine, epoch, rows = FusedEngine(stack, where.kernels(), **options), 1, []
        slot = stack.seeds.tolist().index(one.config.seed)
        for epochs in launches:
            stretch = train_all(engine, stack.size, epoch, epochs, evaluates=True)
            rows.append(stretch.val.losses[slot].tobytes())
            epoch += epochs
        fields = [getattr(stack, field)[slot].cpu().numpy().tobytes() for field in STATE if field != "best"]
        return b"".join([*fields, *rows])

    alone = train([one])
    middle = len(strangers) // 2
    found = {
        "again": train([one]),
        f"first of {len(strangers) + 1}": train([one, *strangers]),
        f"in the middle of {len(strangers) + 1}": train([*strangers[:middle], one, *strangers[middle:]]),
        "launches of 1 and 2 epochs": train([one], (1, 2)),
        "state in memory": train([one], state_in_shared=False),
        **{f"{threads} threads": train([one], threads=threads) for threads in (64, 256, 512)},
    }
    rows = [f"{name}: {'the same bits' if each == alone else 'OTHER BITS'}" for name, each in found.items()]
    if shutil.which("g++") is None:
        return [*rows, "beside the emulation: g++ is not installed"]
    # Without schedule and Adam, float32 has no function whose last bit a library may choose.
    plain = [where.member(CASES["12-12, dropout"], activation, 3 + n) for n, activation in enumerate(ACTIVATIONS)]
    stacks = [where.stack(plain), Stack.build(plain, CPU)]
    for stack, kernels in zip(stacks, (where.kernels(), dict(emulate())[torch.float32]), strict=True):
        train_all(FusedEngine(stack, kernels), stack.size, 1, 3, evaluates=True)
    for field in STATE:
        mine, theirs = (getattr(stack, field).cpu() for stack in stacks)
        difference = "the same bits" if torch.equal(mine, theirs) else f"differ by {(mine - theirs).abs().max():.0e}"
        rows.append(f"beside the emulation on a CPU, {field}: {difference}")
    return rows


def grid_stacks(where: Environment) -> list[list[Member]]:
    """The 48 configurations by their padded widths, as the queue divides them."""
    members = [
        where.member(((width, width), BATCH_SIZE, 0.0, "sgd"), activation, 0, rate)
        for width, rate, activation in product(WIDTHS, RATES, ("relu", "sigmoid"))
    ]

    def shape(member: Member) -> tuple[int, ...]:
        return Layout.of(member.config.hidden_sizes).sizes

    return [list(stack) for _, stack in groupby(sorted(members, key=shape), key=shape)]


def grid(where: Environment) -> Rows:
    """48 configurations × 800 epochs: in one launch, stack by stack, and through the training loop."""
    epochs = 4 if where.is_emulated else 800
    rows = [f"| 48 configurations × {epochs} epochs | evaluated every epoch | every 5th | never |", "|---|---|---|---|"]
    dues = [np.ones(epochs, np.bool_), np.arange(1, epochs + 1) % 5 == 0, np.zeros(epochs, np.bool_)]

    def parts(due: Any) -> list[Part]:
        stacks = [where.stack(members) for members in grid_stacks(where)]
        engines = [FusedEngine(stack, where.kernels(), threads=256) for stack in stacks]
        return [
            Part(engine, range(stack.size), 1, np.tile(due, (stack.size, 1)), [Decisions()] * stack.size)
            for engine, stack in zip(engines, stacks, strict=True)
        ]

    ways: dict[str, Callable[[list[Part]], list[list[Part]]]] = {
        "all in one launch": lambda found: [found],
        "stack by stack": lambda found: [[each] for each in found],
    }
    best: list[float] = []
    for way, divide in ways.items():
        texts = []
        for due in dues:
            launches = divide(parts(due))
            done: list[Any] = []
            seconds = where.time(_launch_all, launches, done)
            texts.append(f"{seconds:.3f} s")
            if due.all():
                size = len(where.split.val)
                best.append(max(stretch.val.corrects.max() for stretches in done for stretch in stretches) / size)
        rows.append(f"| {way} | {' | '.join(texts)} |")
    groups: dict[str, Callable[[list[StackTraining]], list[list[StackTraining]]]] = {
        "side by side, through the training loop": lambda trainings: [trainings],
        "stack by stack, through the training loop": lambda trainings: [[each] for each in trainings],
    }
    for way, group in groups.items():
        texts = []
        for every in (1, 5, epochs):
            trainings = [_looped(where, members, epochs, every) for members in grid_stacks(where)]
            texts.append(f"{where.time(_finish_all, group(trainings)):.3f} s")
        rows.append(f"| {way} | {' | '.join(texts)} |")
    return [*rows, "", "best val accuracy: " + ", ".join(f"{each:.4f}" for each in best)]


def _looped(where: Environment, members: Sequence[Member], epochs: int, every: int) -> StackTraining:
    changed = [
        member._replace(config=MlpConfig(**{**vars(member.config), "epochs": epochs, "evaluate_every": every}))
        for member in members
    ]
    training = StackTraining(changed, where.device, cuda_engine="fused")
    if where.is_emulated:
        training.engine = FusedEngine(training.stack, where.kernels())
    return training


def _launch_all(launches: Sequence[Sequence[Part]], done: list[Any]) -> None:
    done += map(train_together, launches)


def _finish_all(groups: Sequence[Sequence[StackTraining]]) -> None:
    """Train group after group to the end, each side by side, as the trainer does it."""
    for trainings in groups:
        together = SideBySideTraining(trainings)
        while any(training.active for training in trainings):
            for _, train in together.advance():
                train()
            for run in [run for training in trainings for run in training.active if run.is_finished or run.failure]:
                run.leave()


def service(where: Environment) -> Rows:
    """The same 48 configurations through the service: from the request until the last run has ended."""
    needed = ("fastapi", "sqlalchemy", "uvicorn", "httpx2", "onnxruntime", "sklearn")
    missing = [name for name in needed if find_spec(name) is None]
    if missing or where.is_emulated:
        yield f"skipped: {', '.join(missing)} missing" if missing else "skipped: the service needs a GPU for this"
        return
    from tests.benchmarks.sweep import run_sweep, serve

    for engine in ("fused", "batched"):
        settings = {"DIGITLAB_DEVICE": "cuda", "DIGITLAB_CUDA_ENGINE": engine}
        with tempfile.TemporaryDirectory(prefix="digitlab-gpu-") as folder, serve(Path(folder), **settings) as client:
            for attempt in ("first", "second"):
                seconds, sweep = run_sweep(client, {**SWEEP, "name": f"{engine} {attempt}"})
                yield f"{engine}, {attempt}: {seconds:.2f} s, {sweep['progress']}"
                if where.seconds_left < 3 * seconds:
                    return


def speed(where: Environment) -> Rows:
    """Nanoseconds a run and step of the whole stack, R runs, with and without evaluation."""
    sizes = (1, 2) if where.is_emulated else (1, 8, 32, 132, 528, 1024, 4096, 10_000)
    rows = ["| ns a run and step | " + " | ".join(f"R = {size}" for size in sizes) + " |"]
    rows.append("|---" * (len(sizes) + 1) + "|")
    steps = -(-len(where.split.train) // BATCH_SIZE)
    for name, hidden_sizes in SHAPES.items():
        case: Case = (hidden_sizes, BATCH_SIZE, 0.0, "sgd")
        base = where.stack([where.member(case, "relu", seed) for seed in range(min(sizes[-1], 256))])
        for evaluates in (False, True):
            texts = []
            for size in sizes:
                if where.seconds_left < MARGIN_SECONDS:
                    return rows
                engine = FusedEngine(base.select([number % base.size for number in range(size)]), where.kernels())
                train_all(engine, size, 1, 1, evaluates=evaluates)
                once = where.time(train_all, engine, size, 2, 1, evaluates=evaluates)
                epochs = 1 if where.is_emulated else max(1, min(50, int(0.15 / once)))
                num_tries = 1 if where.is_emulated else 3
                best = min(
                    where.time(train_all, engine, size, 3, epochs, evaluates=evaluates) for _ in range(num_tries)
                )
                texts.append(f"{best / epochs / steps / size * 1e9:,.0f}")
            title = "evaluated every epoch" if evaluates else "not evaluated"
            rows.append(f"| {name}, {title} | {' | '.join(texts)} |")
    return rows


def profile(where: Environment) -> Rows:
    """A block's cycles a step by phase, barriers included: a block alone, and one of four a multiprocessor."""
    if where.is_emulated:
        return ["skipped: there are no cycles to count"]
    kernels = LoadedKernels(where.device, torch.float32, "-DPROFILE")
    phases = ("order", "forward", "softmax", "backward", "masks", "update", "evaluate")
    rows = ["| cycles a step | " + " | ".join(phases) + " |", "|---" * (len(phases) + 1) + "|"]
    for name, hidden_sizes in SHAPES.items():
        base = where.stack([where.member((hidden_sizes, BATCH_SIZE, 0.0, "sgd"), "relu", seed) for seed in range(64)])
        for size in (1, 4 * kernels.limits.num_multiprocessors):
            stack = base.select([number % base.size for number in range(size)])
            engine = FusedEngine(stack, kernels)
            cycles = torch.zeros(len(phases), dtype=torch.int64, device=where.device)
            engine.plan.job.cycles = cycles.data_ptr()
            train_all(engine, size, 1, 5, evaluates=True)
            shares = cycles.cpu().numpy() / 5 / stack.shape.num_steps
            rows.append(f"| {name}, R = {size} | " + " | ".join(f"{each:,.0f}" for each in shares) + " |")
    return rows


def batched(where: Environment) -> Rows:
    """The engine of batched torch operations with CUDA graphs on the same card."""
    rows: list[str] = []
    for name, sizes in (("12-12", (1, 32, 132, 1024, 4096)), ("52-52", (1, 132, 1024))):
        for size in (1,) if where.is_emulated else sizes:
            if where.seconds_left < 2 * MARGIN_SECONDS:
                return rows
            case: Case = (SHAPES[name], BATCH_SIZE, 0.0, "sgd")
            members = [where.member(case, "relu", seed % 64) for seed in range(size)]
            training = StackTraining(members, where.device, is_compiled=False)
            first = where.time(training.engine.train, range(size), 1)
            best = min(where.time(training.engine.train, range(size), epoch) for epoch in (2, 3, 4))
            steps = training.stack.shape.num_steps
            rows.append(
                f"batched, {name}, R = {size}: {best / steps / size * 1e9:,.0f} ns a run and step, not evaluated; "
                f"first epoch {first:.2f} s"
            )
    return rows


def jax(where: Environment) -> Rows:
    """JAX, jit(vmap(scan)), on the same card: float32 by `highest`, and by `default`, which may round to TF32."""
    if find_spec("jax") is None:
        return ["skipped: jax is not installed"]
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax as library

    from tests.benchmarks.training import NUM_STEPS, make_jax_trainer, train_with_jax

    rows = [f"JAX {library.__version__}, {library.devices()}"]
    for precision, (width, sizes) in product(
        ("highest", "default"), ((12, (1, 132, 1024, 4096)), (52, (1, 132, 1024)))
    ):
        library.config.update("jax_default_matmul_precision", precision)
        for size in (1,) if where.is_emulated else sizes:
            if where.seconds_left < 2 * MARGIN_SECONDS:
                return rows
            trainer, epochs = make_jax_trainer(width, "relu"), 3
            run = partial(train_with_jax, trainer, range(size), [0.01] * size, epochs)
            compiled, *times = (where.time(run) for _ in range(3))
            rows.append(
                f"JAX {precision}, {width}-{width}, R = {size}: {min(times) / epochs / NUM_STEPS / size * 1e9:,.0f} ns "
                f"a run and step, not evaluated; first call {compiled:.1f} s"
            )
    return rows


def notebook(where: Environment) -> Rows:
    """The notebook's own loop, on the CPU of this machine, for two epochs of one configuration."""
    del where
    from tests.benchmarks.training import CONFIGURATIONS, train_as_the_notebook

    started = time.perf_counter()
    train_as_the_notebook(CONFIGURATIONS[0], 2)
    seconds = (time.perf_counter() - started) / 2
    return [
        f"notebook's loop: {seconds:.2f} s an epoch; 48 configurations × 800 epochs: {seconds * 48 * 800 / 60:.0f} min"
    ]


TOOLS = {
    "racecheck": ["compute-sanitizer", "--tool", "racecheck"],
    # Of the API's errors: cuda.bindings asks for functions of newer drivers, and takes no for an answer.
    "memcheck": ["compute-sanitizer", "--tool", "memcheck", "--report-api-errors", "no"],
    "ncu": ["ncu", "--set", "full", "--clock-control", "none", "-k", "train_epochs", "-c", "1"],
}
TELLING = (
    "ERROR SUMMARY",
    "RACECHECK SUMMARY",
    "Duration",
    "Throughput",
    "Executed Ipc",
    "Registers Per",
    "Achieved Occ",
)


def tools(where: Environment) -> Rows:
    """compute-sanitizer on three runs, Nsight Compute on one launch of 528."""
    if where.is_emulated:
        return ["skipped: there is no GPU"]
    rows = []
    for name, command in TOOLS.items():
        if shutil.which(command[0]) is None or where.seconds_left < 2 * MARGIN_SECONDS:
            rows.append(f"{name}: skipped, {'no time' if shutil.which(command[0]) else f'no {command[0]}'}")
            continue
        target = [sys.executable, "-m", "tests.benchmarks.gpu", "--part", "launch" if name == "ncu" else "tiny"]
        limit = ["timeout", "-k", "2", str(int(where.seconds_left - 2))]
        done = subprocess.run(
            [*limit, *command, *target, "--out", str(where.out)], cwd=ROOT, capture_output=True, text=True
        )
        (where.out / f"{name}.txt").write_text(done.stdout + done.stderr)
        told = [line.strip() for line in done.stdout.splitlines() if any(word in line for word in TELLING)]
        rows.append(f"{name} (exit {done.returncode}): " + "; ".join(told))
    return rows


def tiny(where: Environment) -> Rows:
    """For the sanitizer: every path of the kernels, few epochs."""
    members = [where.member(((12, 20), 50, 0.25, "adam"), activation) for activation in ACTIVATIONS]
    stack = where.stack(members)
    engine = FusedEngine(stack, where.kernels())
    train_all(engine, 3, 1, 1, evaluates=True)
    engine.evaluate([0], "val")
    engine.logits(0, stack.parameters[0], "val")
    return []


def launch(where: Environment) -> Rows:
    """For Nsight Compute: a full GPU."""
    base = where.stack([where.member(CASES["12-12"], "relu", seed) for seed in range(132)])
    stack = base.select([number % 132 for number in range(528)])
    train_all(FusedEngine(stack, where.kernels()), 528, 1, 2, evaluates=True)
    return []


class Measured(NamedTuple):
    measure: Callable[[Environment], Rows]
    seconds: float  # limit


PARTS = {
    each.measure.__name__: each
    for each in (
        Measured(versions, 40),
        Measured(correctness, 60),
        Measured(bits, 40),
        Measured(grid, 60),
        Measured(service, 120),
        Measured(speed, 100),
        Measured(profile, 30),
        Measured(jax, 110),
        Measured(batched, 60),
        Measured(tools, 90),
        Measured(notebook, 25),
    )
}
INNER = {"tiny": tiny, "launch": launch}


@contextmanager
def stopwatch(name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f"== {name}: {time.monotonic() - started:.1f} s", flush=True)


def run_part(name: str, arguments: argparse.Namespace) -> None:
    """Run one part in this process, and write its result at once."""
    torch.set_num_threads(1)
    where = Environment(is_emulated=arguments.emulated, seconds=arguments.seconds, out=arguments.out)
    measure = INNER[name] if name in INNER else PARTS[name].measure
    rows = []
    for row in measure(where):
        rows.append(row)
        if name in PARTS:
            (arguments.out / f"{name}.json").write_text(json.dumps(rows))
        print(row, flush=True)


def start_part(name: str, limit: float, arguments: argparse.Namespace) -> None:
    """Run one part in a process of its own, for `limit` seconds at most."""
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--part", name, "--out", str(arguments.out)]
    command += ["--seconds", str(limit), *(["--emulated"] if arguments.emulated else [])]
    with stopwatch(name), (arguments.out / f"{name}.log").open("w") as log:
        try:
            done = subprocess.run(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, timeout=limit + MARGIN_SECONDS
            )
            print(done.stdout, flush=True)
            if done.returncode != 0:
                print(f"FAILED, exit {done.returncode}: see {name}.log", flush=True)
        except subprocess.TimeoutExpired:
            print("stopped: it took too long", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seconds", type=float, default=TOTAL_SECONDS)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-benchmark")))
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--part", choices=[*PARTS, *INNER], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        run_part(arguments.part, arguments)
        return
    deadline = time.monotonic() + arguments.seconds
    for name in arguments.only:
        limit = min(PARTS[name].seconds, deadline - time.monotonic() - MARGIN_SECONDS)
        if limit <= MARGIN_SECONDS:
            print(f"== {name}: no time left", flush=True)
            continue
        start_part(name, limit, arguments)
    (arguments.out / "gpu.md").write_text(collect(arguments.out))


def collect(folder: Path) -> str:
    """All results as one text, in the order of the parts."""
    texts = []
    for name, part in PARTS.items():
        path = folder / f"{name}.json"
        if path.exists():
            told = (part.measure.__doc__ or "").splitlines()[0]
            rows = json.loads(path.read_text())
            # Lines outside of a table become items of a list.
            texts.append(f"### {name}\n\n{told}\n")
            texts += [row if row.startswith("|") or not row else f"- {row}" for row in rows]
            texts.append("")
    return "\n".join(texts)


if __name__ == "__main__":
    main()
