"""Training as a pure library: no database, no settings, no web. It can be used from a notebook.

The caller drives a training, one epoch at a time, and can read the runs' metrics, save their checkpoints and make runs
leave between epochs:

    while training.active:
        for run, metrics in training.run_epoch():
            ...
        for run in [run for run in training.active if run.is_finished or run.failure]:
            run.result()  # unless it failed
            run.leave()

`side_by_side.SideBySideTraining` drives several of them, and lets each train as many epochs at once as it can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workers.training.checkpoint import TrainingState
from workers.training.evaluation import Best, Metrics
from workers.training.result import Result


class TrainingRun(Protocol):
    """One run in training: an `MlpTraining`, a `ForestTraining` or an `EnsembleTraining`."""

    epoch: int  # done so far
    seconds: float  # of training; time between epochs is not counted
    best: Best | None
    failure: str | None  # why the run cannot continue: its loss is no longer a finite number

    @property
    def is_finished(self) -> bool: ...

    def stop(self) -> None:
        """Finish the run at this epoch, which has been evaluated."""

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """Copies of the state by role (`last`, `best`); a role with nothing new to keep is left out."""

    def take_snapshots(self) -> list[TrainingState]:
        """Weights and val predictions at the epochs that keep them, since the last call."""

    def result(self) -> Result:
        """The trained model and its evaluation; the run must be finished."""

    def leave(self) -> None:
        """Leave the training; the other runs are not affected."""


class TrainingLoop(Protocol):
    """Runs that are trained together: a `StackTraining` of one run or many, or one run of another kind."""

    @property
    def active(self) -> Sequence[TrainingRun]:
        """The runs that are in training, all at the same epoch."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The engine, its threads and its number type, as far as a result may depend on them."""

    @property
    def num_done(self) -> int:
        """A count, in no particular unit, that grows while an epoch makes progress. Another thread may read it."""

    def run_epoch(self) -> Sequence[tuple[TrainingRun, Metrics]]:
        """Train every active run for one epoch; returns the metrics of those that are due for evaluation."""
