"""Stretches of epochs that an engine trains in one call: how long one may be, what the engine must know, what it gave.

Shape letters: S runs, K epochs of the stretch, B batch; D inputs and H outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from workers.training.config import MlpConfig
from workers.training.evaluation import Best, Metrics, Score
from workers.training.stack import Decisions, Shape, Stretch, Tally

CALL_SECONDS = 0.1  # of training in one call: between two of them, the trainer hears its parent and commits
MAX_GROWTH = 4  # of a call's work from one to the next
STEP_WORK = 530_000  # of a step besides its multiply-adds: see `epoch_work`


class Run(Protocol):
    """The part of `loop.MlpTraining` that matters here."""

    config: MlpConfig
    epoch: int
    seconds: float
    best: Best | None
    failure: str | None

    has_left: bool

    @property
    def is_finished(self) -> bool: ...

    def next_stop(self, after: int) -> int: ...

    @property
    def stopping_reference(self) -> Best | None: ...

    def record_epoch(self, metrics: Metrics, *, is_due: bool) -> bool: ...


AnyRun = TypeVar("AnyRun", bound=Run)

NONE = Best(0, -1.0, 0.0, 0.0)  # stands for no epoch in `Decisions`


class Planned(NamedTuple, Generic[AnyRun]):
    """A stretch that an engine is told to train."""

    runs: Sequence[AnyRun]  # S, in the order of their slots
    first: int  # epoch
    dues: npt.NDArray[np.bool_]  # S × K: see `find_dues`

    @property
    def length(self) -> int:
        length: int = self.dues.shape[1]
        return length

    @property
    def last(self) -> int:
        return self.first + self.length - 1


class Pace:
    """Finds how much work makes `CALL_SECONDS`, from one call to the next. Work is in units of the caller's choice."""

    def __init__(self) -> None:
        self.limit = 1

    def follow(self, work: int, seconds: float) -> None:
        """Set the limit by the last call."""
        wanted = int(CALL_SECONDS * work / max(seconds, 1e-6))
        self.limit = max(1, min(wanted, MAX_GROWTH * max(self.limit, work)))


def epoch_work(shape: Shape) -> int:
    """How long a run's epoch takes beside those of other shapes, roughly: in multiply-adds.

    It only decides how many epochs the stacks of one launch train, so that all are done at about the same time. A
    block alone on an H100 takes 6.6 µs a step and 12.5 µs a million multiply-adds (docs/benchmarks.md).
    """
    products = sum(inputs * outputs for inputs, outputs in pairwise(shape.layout.sizes))  # D × H of all layers
    return shape.num_steps * (STEP_WORK + 3 * shape.batch_size * products)  # B × D × H: forward, back and gradient


def find_length(runs: Sequence[Run], after: int, limit: int) -> int:
    """The epochs from the one after `after` until the first of the runs must be looked at, at most `limit`."""
    return min(limit, min(run.next_stop(after) for run in runs) - after)


def find_dues(runs: Sequence[Run], first: int, length: int) -> npt.NDArray[np.bool_]:
    """Which epochs from `first` on each run evaluates (S × K): see `config.is_due`.

    Rungs come on top; a stretch reaches one with its last epoch only.
    """
    epochs = np.arange(first, first + length)  # K
    every = np.array([run.config.evaluate_every for run in runs])[:, None]  # S × 1
    last = np.array([run.config.epochs for run in runs])[:, None]
    dues: npt.NDArray[np.bool_] = (epochs % every == 0) | (epochs == 1) | (epochs == last)
    dues[:, -1] |= [int(epochs[-1]) in run.config.rungs for run in runs]
    return dues


def known_of(run: Run) -> Decisions:
    """What is decided of a run before a stretch."""
    best, reference, stopping = run.best or NONE, run.stopping_reference or NONE, run.config.early_stopping
    return Decisions(
        best.val_accuracy,
        best.val_loss,
        reference.epoch,
        reference.val_accuracy,
        reference.val_loss,
        *((stopping.patience, stopping.min_delta) if stopping else ()),
    )


def replay(
    stretch: Stretch, planned: Planned[AnyRun], shape: Shape, epoch_seconds: float
) -> list[tuple[AnyRun, Metrics]]:
    """Let each run record its epochs of a stretch, one after the other, as if they were trained now.

    Runs that have left the stack since the stretch was planned record nothing.

    Args:
        stretch: What the engine returned.
        planned: What it was told.
        shape: Of the stack.
        epoch_seconds: How long an epoch took.

    Returns:
        The evaluated runs with their metrics, epoch by epoch.

    Raises:
        RuntimeError: A run ends where the engine went on with it, or the other way round.
    """
    num_train, num_val, _ = shape.split_sizes
    columns = [_scores(stretch.seen, num_train), _scores(stretch.train, num_train), _scores(stretch.val, num_val)]
    gradient_norms, weight_norms = stretch.gradient_norms.tolist(), stretch.weight_norms.tolist()
    ends, are_due = stretch.ends.tolist(), planned.dues.tolist()
    rows = [(row, run) for row, run in enumerate(planned.runs) if not run.has_left]
    for row, run in rows:
        if ends[row] < planned.first:
            raise _disagreement(run, ends[row])
    evaluated = []
    for number in range(planned.length):
        epoch = planned.first + number
        for row, run in rows:
            if epoch > ends[row]:
                continue
            run.epoch = epoch
            run.seconds += epoch_seconds
            seen, train, val = (scores[row][number] for scores in columns)
            norms = gradient_norms[row][number], weight_norms[row][number]
            metrics = Metrics(epoch, *seen, *train, *val, *norms, run.seconds)
            if run.record_epoch(metrics, is_due=are_due[row][number]):
                evaluated.append((run, metrics))
            has_ended = run.failure is not None or run.is_finished
            if has_ended != (epoch == ends[row]) and epoch != planned.last:
                raise _disagreement(run, ends[row])
    return evaluated


def _disagreement(run: Run, end: int) -> RuntimeError:
    return RuntimeError(f"the engine and the loop disagree at epoch {run.epoch}; the engine ended at {end}")


def _scores(tally: Tally, size: int) -> list[list[Score]]:
    """Mean losses and accuracies: S × K."""
    return [
        [Score(loss / size, num_correct / size) for loss, num_correct in zip(losses, corrects, strict=True)]
        for losses, corrects in zip(tally.losses.tolist(), tally.corrects.tolist(), strict=True)
    ]
