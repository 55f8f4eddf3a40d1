"""The configuration of a training: plain dataclasses, whose values the caller has validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NUM_PIXELS = 64
NUM_CLASSES = 10


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer as torch.optim defines it; fields of the other kind are ignored."""

    kind: Literal["sgd", "adam"]
    learning_rate: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    nesterov: bool = False  # SGD: step along the gradient plus the new momentum


@dataclass(frozen=True)
class StoppingConfig:
    """When to end a training early: after `patience` epochs without improvement by more than `min_delta`."""

    patience: int
    min_delta: float = 0.0


@dataclass(frozen=True)
class CosineConfig:
    """A learning rate that rises over `warmup_steps` and falls to 0 at the run's end, as in `schedule`."""

    warmup_steps: int


@dataclass(frozen=True)
class AugmentationConfig:
    """Training on warped copies of the images; an epoch draws one of an image's `copies`. See `augmentation`."""

    copies: int
    strength: float


@dataclass(frozen=True)
class MlpConfig:
    seed: int
    hidden_sizes: tuple[int, ...]
    activation: Literal["sigmoid", "tanh", "relu"]
    dropout: float
    optimizer: OptimizerConfig
    batch_size: int | None  # None: full batch
    epochs: int
    evaluate_every: int
    keep: Literal["best", "last"] = "best"
    early_stopping: StoppingConfig | None = None
    schedule: CosineConfig | None = None  # None: a constant learning rate
    augmentation: AugmentationConfig | None = None
    rungs: tuple[int, ...] = ()  # further epochs to evaluate: a sweep compares its trials there
    snapshots: int = 0  # evaluated epochs whose weights and val predictions are kept


@dataclass(frozen=True)
class ForestConfig:
    seed: int
    n_estimators: int
    max_depth: int
    evaluate_every: int


def is_due(epoch: int, *, evaluate_every: int, epochs: int) -> bool:
    """Whether an epoch (from 1) is evaluated: the first, the last, and every `evaluate_every` epochs."""
    return epoch in (1, epochs) or epoch % evaluate_every == 0


def snapshot_epochs(number: int, *, evaluate_every: int, epochs: int) -> list[int]:
    """Choose the evaluated epochs that keep a snapshot: the first, the last, and others in between by their logarithm.

    A network changes most in its first epochs, so these are close together. The steps grow by a constant factor, but
    are one evaluation at least; all evaluated epochs are chosen if there are no more than `number`.

    Args:
        number: How many epochs.
        evaluate_every: See `is_due`.
        epochs: See `is_due`.
    """
    if number < 2:
        return [epochs] if number else []
    evaluated = sorted({1, *range(evaluate_every, epochs + 1, evaluate_every), epochs})
    number = min(number, len(evaluated))
    places = [1.0]  # in `evaluated`, from 1
    while len(places) < number:
        factor = (len(evaluated) / places[-1]) ** (1 / (number - len(places)))
        places.append(max(places[-1] + 1, places[-1] * factor))
    return [evaluated[round(place) - 1] for place in places]
