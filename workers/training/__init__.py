"""Training, pure: no database, no settings, no web. Usable from a notebook.

A training, of either kind, is driven from outside: `run_epoch` until it `is_finished`, `checkpoints` whenever the state
is worth keeping, `result` at the end.
"""

from __future__ import annotations

from typing import Protocol

from workers.training.evaluation import Best, Metrics
from workers.training.result import Result


class Training(Protocol):
    """One run in training: an `MlpTraining` or a `ForestTraining`."""

    epoch: int  # done so far
    seconds: float  # of training, without what happens between epochs
    best: Best | None

    @property
    def is_finished(self) -> bool: ...

    def run_epoch(self) -> Metrics | None:
        """Train for one epoch; returns its metrics if it is due for evaluation.

        Raises:
            Diverged: A loss is not finite.
        """

    def checkpoints(self) -> dict[str, bytes]:
        """The state by role, as safetensors; a role is left out when there is nothing new to keep in it."""

    def result(self) -> Result:
        """What a finished training leaves behind."""
