"""The engine of `train.cu`: one block of a GPU trains one network, whole epochs in one launch.

Shape letters: R runs in the stack, S slots of a call, K epochs of a stretch, L layers, N samples of a split, C = 10
classes, P parameters of a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.training.config import NUM_CLASSES
from workers.training.engines.cuda_driver import Kernels
from workers.training.engines.cuda_plan import Job, Plan, make_plan
from workers.training.stack import Decisions, Stack, Stretch, Tally, clip_bounds
from workers.training.tensors import SplitName

NUM_SUMS = 6  # of an epoch: losses and right predictions as seen in training, and on train and val


class FusedEngine:
    """Trains a stack by the kernels of `train.cu`; see `stack.StretchEngine` for the methods.

    Args:
        stack: On the kernels' device.
        kernels: For the stack's number type.
        threads: See `cuda_plan.make_plan`.
        state_in_shared: See `cuda_plan.make_plan`.

    Raises:
        DoesNotFit: The networks are too large for the device.
    """

    threads = 1

    def __init__(
        self, stack: Stack, kernels: Kernels, *, threads: int | None = None, state_in_shared: bool | None = None
    ) -> None:
        self.name = kernels.description
        self.num_done = 0
        self._stack = stack
        self.kernels = kernels
        self.device = stack.parameters.device
        self.plan: Plan = make_plan(
            stack.shape,
            stack.parameters.element_size(),
            kernels.limits,
            num_runs=stack.size,
            has_dropout=stack.has_dropout,
            threads=threads,
            state_in_shared=state_in_shared,
        )
        self._arrays = _device_arrays(stack)
        self._rows = {split: rows.int().contiguous() for split, rows in stack.rows.items()}
        job = self.plan.job
        for name, array in {**self._arrays, "train": self._rows["train"], "val": self._rows["val"]}.items():
            setattr(job, name, array.data_ptr())
        job.bank_images = stack.bank.shape[1]
        job.lowest, job.highest = clip_bounds(stack.parameters.dtype)

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        none_due = np.zeros((len(slots), 1), np.bool_)
        seen = self.train_epochs(slots, epoch, none_due, Decisions.none(len(slots))).seen
        return Tally(seen.losses[:, 0], seen.corrects[:, 0])

    def train_epochs(
        self, slots: Sequence[int], epoch: int, dues: npt.NDArray[np.bool_], decisions: Decisions
    ) -> Stretch:
        return train_together([Part(self, slots, epoch, dues, decisions)])[0]

    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        sums = self._evaluate(slots, self._rows[split])
        self.num_done += len(slots)
        return Tally(sums[:, 0], sums[:, 1].astype(np.int64))

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        norms = self._evaluate(slots, self._rows["train"][:, :0])[:, 2:]  # S × 2 L
        gradients, weights = np.split(norms, 2, axis=1)
        return gradients, weights

    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        samples, row = self._rows[split], parameters.contiguous()
        num_samples = samples.shape[1]
        out = row.new_empty(num_samples, NUM_CLASSES)
        blocks = max(1, min(-(-num_samples // self.plan.job.evaluated_rows), self.kernels.limits.num_multiprocessors))
        slots = self._integers([slot] * blocks)  # all of them compute this run: each some of the samples
        self._launch("write_logits", slots, samples=samples, num_samples=num_samples, row=row, logits=out)
        logits: npt.NDArray[np.floating] = out.cpu().numpy()
        return logits

    def _evaluate(self, slots: Sequence[int], samples: Tensor) -> npt.NDArray[np.float64]:
        """Loss, right predictions, and norms of gradients and of parameters, by layer: S × (2 + 2 L)."""
        out = torch.empty(len(slots), 2 + 2 * self.plan.job.num_layers, dtype=torch.float64, device=self.device)
        samples = samples.contiguous()
        numbers = self._integers(slots)
        self._launch("evaluate_runs", numbers, samples=samples, num_samples=samples.shape[1], metrics=out)
        found: npt.NDArray[np.float64] = out.cpu().numpy()
        return found

    def _launch(self, name: str, slots: Tensor, **fields: Any) -> None:
        launch(name, [self], [self.make_job(slots, **fields)])

    def _integers(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def make_job(self, slots: Tensor, **fields: Any) -> Job:
        """The job of a launch for these slots (int32); tensors among the fields become their addresses."""
        job = Job.from_buffer_copy(self.plan.job)
        job.slots, job.num_blocks = slots.data_ptr(), len(slots)
        for name, value in fields.items():
            setattr(job, name, value.data_ptr() if isinstance(value, Tensor) else value)
        return job

    def prepare(self, part: Part) -> _Prepared:
        """The job of a stretch, and where its results will be."""
        num_slots, num_epochs = part.dues.shape
        slots = self._integers(part.slots)
        dues = torch.from_numpy(np.ascontiguousarray(part.dues)).to(self.device)
        decisions = torch.from_numpy(np.stack(part.decisions, axis=1).astype(np.float64)).to(self.device)  # S × 7
        num_columns = NUM_SUMS + 2 * self.plan.job.num_layers
        metrics = torch.zeros(num_slots, num_epochs, num_columns, dtype=torch.float64, device=self.device)
        ends = torch.empty(num_slots, dtype=torch.int32, device=self.device)
        job = self.make_job(
            slots,
            dues=dues,
            decisions=decisions,
            metrics=metrics,
            ends=ends,
            first_epoch=part.epoch,
            num_epochs=num_epochs,
        )
        return _Prepared(job, metrics, ends, (slots, dues, decisions))

    def count(self, stretch: Stretch, epoch: int, dues: npt.NDArray[np.bool_]) -> None:
        """Count the steps and evaluations of a stretch that began at this epoch."""
        trained = stretch.ends - epoch + 1  # epochs of each run: S
        has_trained = np.arange(dues.shape[1]) < trained[:, None]  # S × K
        self.num_done += int(trained.sum()) * self._stack.shape.num_steps + 2 * int((dues & has_trained).sum())


class Part(NamedTuple):
    """One stack's share of a launch: the arguments of `StretchEngine.train_epochs`."""

    engine: FusedEngine
    slots: Sequence[int]
    epoch: int
    dues: npt.NDArray[np.bool_]  # S × K
    decisions: Decisions


class _Prepared(NamedTuple):
    job: Job
    metrics: Tensor  # S × K × (6 + 2 L)
    ends: Tensor  # S
    inputs: tuple[Tensor, ...]  # which the job points to, until the launch is over


def train_together(parts: Sequence[Part]) -> list[Stretch]:
    """Train stacks of any shapes side by side, in one launch; their engines share kernels and a number of threads.

    Raises:
        ValueError: They do not.
    """
    prepared = [part.engine.prepare(part) for part in parts]
    launch("train_epochs", [part.engine for part in parts], [each.job for each in prepared])
    stretches = []
    for part, each in zip(parts, prepared, strict=True):
        stretch = _read(each.metrics.cpu().numpy(), each.ends.cpu().numpy())  # waits for the launch
        part.engine.count(stretch, part.epoch, part.dues)
        stretches.append(stretch)
    return stretches


def launch(name: str, engines: Sequence[FusedEngine], jobs: Sequence[Job]) -> None:
    """Queue a kernel for a job of each engine.

    Raises:
        ValueError: The engines do not share kernels and a number of threads.
    """
    (kernels, threads, device), *others = {(each.kernels, each.plan.threads, each.device) for each in engines}
    if others:
        raise ValueError("engines of one launch need the same kernels, device and number of threads")
    # Copied in the order of the stream: torch reuses the memory only for what is queued after the launch.
    on_device = torch.frombuffer(bytearray(b"".join(map(bytes, jobs))), dtype=torch.uint8).to(device)
    kernels.launch(
        name,
        on_device,
        blocks=max(job.num_blocks for job in jobs),
        num_jobs=len(jobs),
        threads=threads,
        shared_bytes=max(each.plan.shared_bytes for each in engines),
    )


def _read(metrics: npt.NDArray[np.float64], ends: npt.NDArray[np.int32]) -> Stretch:
    """A stretch's results, from the kernel's columns (S × K × (6 + 2 L)): see `Metric` in network.cuh."""
    corrects = metrics[:, :, 1:NUM_SUMS:2].astype(np.int64)
    seen, train, val = (Tally(metrics[:, :, 2 * number], corrects[:, :, number]) for number in range(NUM_SUMS // 2))
    gradient_norms, weight_norms = np.split(metrics[:, :, NUM_SUMS:], 2, axis=2)
    return Stretch(seen, train, val, gradient_norms, weight_norms, ends.astype(np.int64))


def _device_arrays(stack: Stack) -> dict[str, Tensor]:
    """The stack's tensors as the kernels read them, by the name of the job's field."""
    device = stack.parameters.device
    integers = ("activations", "thresholds", "copies", "first_rows", "widths", "labels")
    others = ("parameters", "gradients", "first", "second", "best", "images", "seeds", "scales", "bank")
    arrays = {name: getattr(stack, name).int() for name in integers} | {name: getattr(stack, name) for name in others}
    arrays["settings"] = stack.settings.to(device)
    for name, array in arrays.items():
        if not array.is_contiguous():  # a copy of the parameters would not be the stack's own
            raise ValueError(f"{name} of the stack must be contiguous")
    return arrays
