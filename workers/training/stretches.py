"""Stretches of epochs that an engine trains in one call: how long one may be, what the engine must know, what it gave.

Shape letters: S runs, K epochs of the stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from workers.training.config import MlpConfig
from workers.training.evaluation import Best, Metrics, Score
from workers.training.stack import Decisions, Shape, Stretch, Tally

CALL_SECONDS = 0.1  # of training in one call: between two of them, the trainer hears its parent and commits
MAX_GROWTH = 4  # of a call's epochs from one to the next


class Run(Protocol):
    """The part of `loop.MlpTraining` that matters here."""

    config: MlpConfig
    epoch: int
    seconds: float
    best: Best | None
    failure: str | None

    @property
    def is_finished(self) -> bool: ...

    @property
    def next_stop(self) -> int: ...

    @property
    def stopping_reference(self) -> Best | None: ...

    def record_epoch(self, metrics: Metrics, *, is_due: bool) -> bool: ...


AnyRun = TypeVar("AnyRun", bound=Run)


class Pace:
    """Finds how many epochs make `CALL_SECONDS`, from one call to the next."""

    def __init__(self) -> None:
        self.limit = 1

    def follow(self, epochs: int, seconds: float) -> None:
        """Set the limit by the last call."""
        wanted = int(CALL_SECONDS * epochs / max(seconds, 1e-6))
        self.limit = max(1, min(wanted, MAX_GROWTH * self.limit))


def find_length(runs: Sequence[Run], limit: int) -> int:
    """The epochs until the first of the runs must be looked at, at most `limit`."""
    return min(limit, min(run.next_stop - run.epoch for run in runs))


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


def known_of(runs: Sequence[Run]) -> Decisions:
    """What the runs' best epochs and early stopping are before a stretch."""
    none = Best(0, -1.0, 0.0, 0.0)
    best = [run.best or none for run in runs]
    references = [run.stopping_reference or none for run in runs]
    stopping = [run.config.early_stopping for run in runs]
    return Decisions(
        np.array([each.val_accuracy for each in best]),
        np.array([each.val_loss for each in best]),
        np.array([each.epoch for each in references]),
        np.array([each.val_accuracy for each in references]),
        np.array([each.val_loss for each in references]),
        np.array([each.patience if each else 0 for each in stopping]),
        np.array([each.min_delta if each else 0.0 for each in stopping]),
    )


def replay(
    stretch: Stretch,
    runs: Sequence[AnyRun],
    first: int,
    dues: npt.NDArray[np.bool_],
    shape: Shape,
    epoch_seconds: float,
) -> list[tuple[AnyRun, Metrics]]:
    """Let each run record its epochs of a stretch, one after the other, as if they were trained now.

    Args:
        stretch: What the engine returned.
        runs: In the order of its rows (S).
        first: The stretch's first epoch.
        dues: See `find_dues`.
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
    ends, are_due, last = stretch.ends.tolist(), dues.tolist(), first + dues.shape[1] - 1
    evaluated = []
    for epoch in range(first, last + 1):
        for row, run in enumerate(runs):
            if epoch > ends[row]:
                continue
            number = epoch - first
            run.epoch = epoch
            run.seconds += epoch_seconds
            seen, train, val = (scores[row][number] for scores in columns)
            norms = gradient_norms[row][number], weight_norms[row][number]
            metrics = Metrics(epoch, *seen, *train, *val, *norms, run.seconds)
            if run.record_epoch(metrics, is_due=are_due[row][number]):
                evaluated.append((run, metrics))
            has_ended = run.failure is not None or run.is_finished
            if has_ended != (epoch == ends[row]) and epoch != last:
                raise RuntimeError(
                    f"the engine and the loop disagree at epoch {epoch}; the engine ended at {ends[row]}"
                )
    return evaluated


def _scores(tally: Tally, size: int) -> list[list[Score]]:
    """Mean losses and accuracies: S × K."""
    return [
        [Score(loss / size, num_correct / size) for loss, num_correct in zip(losses, corrects, strict=True)]
        for losses, corrects in zip(tally.losses.tolist(), tally.corrects.tolist(), strict=True)
    ]
