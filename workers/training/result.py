"""What a finished training leaves behind, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workers.training.evaluation import Best, Probabilities

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier


@dataclass(frozen=True)
class MlpModel:
    """A trained network: weights (H × D) and biases (H) of each layer."""

    layers: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
    activation: str


@dataclass(frozen=True)
class Result:
    """A trained model and its evaluation."""

    model: MlpModel | RandomForestClassifier
    num_parameters: int
    chosen: Best  # the epoch whose weights these are, with their metrics
    val_probabilities: Probabilities
    test_probabilities: Probabilities | None  # None: there is no test split
    test_accuracy: float | None
