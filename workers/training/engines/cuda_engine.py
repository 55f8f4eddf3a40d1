"""The engine of `train.cu`: one block of a GPU trains one network, whole epochs in one launch.

Shape letters: R runs in the stack, S slots of a call, K epochs of a stretch, L layers, N samples of a split, C = 10
classes, P parameters of a network.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.training.config import NUM_CLASSES
from workers.training.engines.cuda_driver import Kernels
from workers.training.engines.cuda_plan import DoesNotFit, Job, Plan, make_plan
from workers.training.stack import Decisions, Stack, Stretch, Tally, clip_bounds
from workers.training.tensors import SplitName

NUM_SUMS = 6  # of an epoch: losses and right predictions as seen in training, and on train and val
NUM_DECISIONS = len(Decisions._fields) + 1  # see `Decision` in network.cuh
STATE = ("parameters", "first", "second", "best")  # the tensors of a stack that a checkpoint is made of


class FusedEngine:
    """Trains a stack by the kernels of `train.cu`: see `stack.Engine`; and several epochs in one launch.

    Args:
        stack: On the kernels' device.
        kernels: For the stack's number type.
        threads: See `cuda_plan.make_plan`.
        state_in_shared: See `cuda_plan.make_plan`.
        evaluated_rows: See `cuda_plan.make_plan`.

    Raises:
        DoesNotFit: The networks are too large for the device.
    """

    threads = 1

    def __init__(
        self,
        stack: Stack,
        kernels: Kernels,
        *,
        threads: int | None = None,
        state_in_shared: bool | None = None,
        evaluated_rows: int | None = None,
    ) -> None:
        self.name = kernels.description
        self.num_done = 0
        self.stack = stack
        self.kernels = kernels
        self.device = stack.parameters.device
        self._state_in_shared = state_in_shared
        self._evaluated_rows = evaluated_rows
        self._arrays = _device_arrays(stack)
        self._rows = {split: rows.int().contiguous() for split, rows in stack.rows.items()}
        self.plan = self._make_plan(threads)
        self._plans = {self.plan.threads: self.plan}
        self._decisions = torch.empty(0, dtype=torch.float64)  # R × 8, on the device: see `prepare`

    def _make_plan(self, threads: int | None) -> Plan:
        stack = self.stack
        plan = make_plan(
            stack.shape,
            stack.parameters.element_size(),
            self.kernels.limits,
            num_runs=stack.size,
            num_images=len(stack.images),
            has_dropout=stack.has_dropout,
            threads=threads,
            state_in_shared=self._state_in_shared,
            evaluated_rows=self._evaluated_rows,
        )
        for name, array in {**self._arrays, "train": self._rows["train"], "val": self._rows["val"]}.items():
            setattr(plan.job, name, array.data_ptr())
        plan.job.bank_images = stack.bank.shape[1]
        plan.job.lowest, plan.job.highest = clip_bounds(stack.parameters.dtype)
        return plan

    def plan_for(self, threads: int) -> Plan:
        """The plan of a launch whose blocks have so many threads, which changes no bit.

        Raises:
            DoesNotFit: The networks do not fit beside what these threads need.
        """
        if threads not in self._plans:
            self._plans[threads] = self._make_plan(threads)
        return self._plans[threads]

    def launch_key(self, threads: int) -> Hashable:
        """Engines of equal keys can share a launch whose blocks have so many threads."""
        try:
            self.plan_for(threads)
        except DoesNotFit:
            return self
        return self.kernels, self.device

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        none_due = np.zeros((len(slots), 1), np.bool_)
        seen = self.train_epochs(slots, epoch, none_due, [Decisions()] * len(slots)).seen
        return Tally(seen.losses[:, 0], seen.corrects[:, 0])

    def train_epochs(
        self, slots: Sequence[int], epoch: int, dues: npt.NDArray[np.bool_], decisions: Sequence[Decisions]
    ) -> Stretch:
        """Train K epochs, and write the weights of each run's best epoch to `Stack.best`; see `Part`.

        A run ends early where a loss is not finite, or where early stopping says so; its tensors are then those of that
        epoch.
        """
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
        out = row.new_zeros(num_samples, NUM_CLASSES)
        blocks = max(1, min(-(-num_samples // self.plan.job.evaluated_rows), self.kernels.limits.num_multiprocessors))
        slots = self._integers([slot] * blocks)  # all of them compute this run: each some of the samples
        self._launch("write_logits", slots, samples=samples, num_samples=num_samples, row=row, logits=out)
        logits: npt.NDArray[np.floating] = out.cpu().numpy()
        return logits

    def _evaluate(self, slots: Sequence[int], samples: Tensor) -> npt.NDArray[np.float64]:
        """Loss, right predictions, and norms of gradients and of parameters, by layer: S × (2 + 2 L)."""
        out = torch.zeros(len(slots), 2 + 2 * self.plan.job.num_layers, dtype=torch.float64, device=self.device)
        samples = samples.contiguous()
        numbers = self._integers(slots)
        self._launch("evaluate_runs", numbers, samples=samples, num_samples=samples.shape[1], metrics=out)
        found: npt.NDArray[np.float64] = out.cpu().numpy()
        return found

    def _launch(self, name: str, slots: Tensor, **fields: Any) -> None:
        launch(name, [self.plan], [self.make_job(self.plan, slots, **fields)], self.kernels, self.device)

    def _integers(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def make_job(self, plan: Plan, slots: Tensor, **fields: Any) -> Job:
        """The job of a launch for these slots (int32); tensors among the fields become their addresses."""
        job = Job.from_buffer_copy(plan.job)
        job.slots, job.num_blocks = slots.data_ptr(), len(slots)
        for name, value in fields.items():
            setattr(job, name, value.data_ptr() if isinstance(value, Tensor) else value)
        return job

    def prepare(self, part: Part, plan: Plan) -> _Prepared:
        """The job of a stretch, and where its results will be."""
        num_slots, num_epochs = part.dues.shape
        slots = _to_device(np.array(part.slots, np.int32), self.device)
        dues = _to_device(np.ascontiguousarray(part.dues), self.device)
        if part.decisions is not None:
            decisions = np.zeros((self.stack.size, NUM_DECISIONS))
            decisions[part.slots, :-1] = part.decisions
            self._decisions = _to_device(decisions, self.device)
        num_columns = NUM_SUMS + 2 * self.plan.job.num_layers
        metrics = torch.zeros(num_slots, num_epochs, num_columns, dtype=torch.float64, device=self.device)
        ends = torch.zeros(num_slots, dtype=torch.int32, device=self.device)
        job = self.make_job(
            plan,
            slots,
            dues=dues,
            decisions=self._decisions,
            metrics=metrics,
            ends=ends,
            first_epoch=part.epoch,
            num_epochs=num_epochs,
        )
        return _Prepared(job, metrics, ends, (slots, dues))

    def count(self, stretch: Stretch, epoch: int, dues: npt.NDArray[np.bool_]) -> None:
        """Count the steps and evaluations of a stretch that began at this epoch."""
        trained = np.maximum(0, stretch.ends - epoch + 1)  # epochs of each run: S
        has_trained = np.arange(dues.shape[1]) < trained[:, None]  # S × K
        self.num_done += int(trained.sum()) * self.stack.shape.num_steps + 2 * int((dues & has_trained).sum())


class Part(NamedTuple):
    """One stack's share of a launch."""

    engine: FusedEngine
    slots: Sequence[int]  # in ascending order (S)
    epoch: int  # the first of the stretch, from 1
    dues: npt.NDArray[np.bool_]  # which epochs each run evaluates: S × K
    decisions: Sequence[Decisions] | None  # S; None: as the launch before leaves them, which trained these runs too


class _Prepared(NamedTuple):
    job: Job
    metrics: Tensor  # S × K × (6 + 2 L)
    ends: Tensor  # S
    inputs: tuple[Tensor, ...]  # which the job points to, until the launch is over


@dataclass
class Queued:
    """A stretch that is queued or under way.

    Its results are copied to the host's memory in the order of the stream, so that to read them waits for this launch
    and for none that is queued later.
    """

    part: Part
    metrics: Tensor  # S × K × (6 + 2 L), in the host's memory once the event has come
    ends: Tensor  # S
    state: dict[str, Tensor] = field(default_factory=dict)  # R × P each: see `keep_state`
    event: torch.cuda.Event | None = None  # None on a CPU, where a launch is over when it returns

    def keep_state(self) -> None:
        """Copy the stack's `STATE` as it is after the stretch; called before the next launch is queued."""
        stack = self.part.engine.stack
        self.state = {name: _to_host(getattr(stack, name)) for name in STATE}
        self.mark()

    def mark(self) -> None:
        """Let `read` wait for all that has been queued so far."""
        if self.part.engine.device.type == "cuda":
            # A thread that waits for it leaves its core to the recorder's.
            self.event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self.event.record()

    def read(self) -> Stretch:
        """Wait for the launch, and return the results."""
        if self.event is not None:
            self.event.synchronize()
        stretch = _read(self.metrics.numpy(), self.ends.numpy())
        self.part.engine.count(stretch, self.part.epoch, self.part.dues)
        return stretch


def queue_together(parts: Sequence[Part]) -> list[Queued]:
    """Queue a launch in which stacks of any shapes are trained side by side.

    Raises:
        ValueError: The engines do not share kernels and device.
        DoesNotFit: A stack's networks do not fit beside the threads that another's need: see `FusedEngine.launch_key`.
    """
    if len({(part.engine.kernels, part.engine.device) for part in parts}) > 1:
        raise ValueError("engines of one launch need the same kernels and device")
    threads = max(part.engine.plan.threads for part in parts)
    plans = [part.engine.plan_for(threads) for part in parts]
    prepared = [part.engine.prepare(part, plan) for part, plan in zip(parts, plans, strict=True)]
    engine = parts[0].engine
    launch("train_epochs", plans, [each.job for each in prepared], engine.kernels, engine.device)
    queued = []
    for part, each in zip(parts, prepared, strict=True):
        queued.append(Queued(part, _to_host(each.metrics), _to_host(each.ends)))
        queued[-1].mark()
    return queued


def train_together(parts: Sequence[Part]) -> list[Stretch]:
    """Train stacks of any shapes side by side, in one launch, and wait for it; see `queue_together`."""
    return [queued.read() for queued in queue_together(parts)]


def launch(name: str, plans: Sequence[Plan], jobs: Sequence[Job], kernels: Kernels, device: torch.device) -> None:
    """Queue a kernel for some jobs, whose plans have the same number of threads."""
    # Copied in the order of the stream: torch reuses the memory only for what is queued after the launch.
    on_device = _to_device(np.frombuffer(bytearray(b"".join(map(bytes, jobs))), np.uint8), device)
    kernels.launch(
        name,
        on_device,
        blocks=max(job.num_blocks for job in jobs),
        num_jobs=len(jobs),
        threads=plans[0].threads,
        shared_bytes=max(plan.shared_bytes for plan in plans),
    )


def _to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Copy to the device in the order of the stream; from memory that is not pinned, torch would wait for the copy."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _to_host(tensor: Tensor) -> Tensor:
    """Copy to the host's memory in the order of the stream."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor, non_blocking=True)


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
