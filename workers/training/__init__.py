"""Training, pure: no database, no settings, no web. Usable from a notebook.

A training is driven from outside, an epoch at a time; between epochs its runs can be looked at, saved, or sent away:

    while training.active:
        for run, metrics in training.run_epoch():
            ...
        for run in [run for run in training.active if run.is_finished or run.failure]:
            run.result()  # unless it failed
            run.leave()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workers.training.checkpoint import TrainingState
from workers.training.evaluation import Best, Metrics
from workers.training.result import Result


class TrainingRun(Protocol):
    """One run in training: an `MlpTraining` or a `ForestTraining`."""

    epoch: int  # done so far
    seconds: float  # of training, without what happens between epochs
    best: Best | None
    failure: str | None  # why it cannot go on: its loss is no longer a finite number

    @property
    def is_finished(self) -> bool: ...

    def stop(self) -> None:
        """Be finished with this epoch, which has been evaluated."""

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """Copies of the state by role; a role is left out when there is nothing new to keep in it."""

    def result(self) -> Result:
        """What a finished run leaves behind."""

    def leave(self) -> None:
        """Go out of the training. The others do not notice."""


class TrainingLoop(Protocol):
    """What trains together: a `StackTraining` of one run or many, or a `ForestTraining`."""

    @property
    def active(self) -> Sequence[TrainingRun]:
        """The runs that are in training, all at the same epoch."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where and by what it is computed, as far as a result may depend on it."""

    @property
    def num_done(self) -> int:
        """What has been computed so far, in no unit: while it grows, an epoch makes progress. For other threads."""

    def run_epoch(self) -> Sequence[tuple[TrainingRun, Metrics]]:
        """Train every active run for one epoch; returns the metrics of those that are due for evaluation."""
