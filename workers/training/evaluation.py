"""Metrics of a model on a split, the best epoch, and early stopping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workers.training.config import StoppingConfig

Probabilities = npt.NDArray[np.float32]


class Score(NamedTuple):
    """A model's score on a split: mean cross-entropy in nats, and the share of right predictions."""

    loss: float
    accuracy: float


class Metrics(NamedTuple):  # made for every run and epoch: a frozen dataclass takes four times as long
    """A run's metrics at an evaluated epoch. Norms are Euclidean, one per layer, over its weights and biases."""

    epoch: int
    train_loss: float  # as seen during the epoch, dropout on
    train_accuracy: float
    train_eval_loss: float  # re-evaluated after the epoch, dropout off
    train_eval_accuracy: float
    val_loss: float
    val_accuracy: float
    gradient_norms: list[float] | None  # at the epoch's last step
    weight_norms: list[float] | None  # after the epoch's last step
    seconds: float  # of training, so far


@dataclass(frozen=True)
class Best:
    """The best epoch: the highest val accuracy, then the lowest val loss, then the earliest."""

    epoch: int
    val_accuracy: float
    val_loss: float
    train_accuracy: float  # re-evaluated, dropout off

    @classmethod
    def of(cls, metrics: Metrics) -> Best:
        return cls(metrics.epoch, metrics.val_accuracy, metrics.val_loss, metrics.train_eval_accuracy)

    def is_beaten_by(self, other: Best) -> bool:
        return (other.val_accuracy, -other.val_loss) > (self.val_accuracy, -self.val_loss)


@dataclass
class EarlyStopping:
    """Watches val metrics; `reference` is the epoch that a later one must improve on."""

    config: StoppingConfig
    reference: Best | None = None

    def should_stop(self, latest: Best) -> bool:
        """Record an evaluated epoch; returns whether the last improvement is `patience` epochs or more ago."""
        if self.reference is None or self._is_improvement(self.reference, latest):
            self.reference = latest
        return latest.epoch - self.reference.epoch >= self.config.patience

    def _is_improvement(self, reference: Best, latest: Best) -> bool:
        if self.config.min_delta > 0:
            return latest.val_accuracy > reference.val_accuracy + self.config.min_delta
        return reference.is_beaten_by(latest)
