"""The result of a finished training, for networks, forests and ensembles."""

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
    """A trained network: weights (H outputs × D inputs) and biases (H) of each layer, without padding."""

    layers: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
    activation: str


@dataclass(frozen=True)
class EnsembleModel:
    """An ensemble, as the ONNX graph that is saved: it is made of graphs."""

    graph: bytes


@dataclass(frozen=True)
class Result:
    """A trained model and its evaluation."""

    model: MlpModel | RandomForestClassifier | EnsembleModel
    num_parameters: int
    chosen: Best  # the epoch of these weights, and its metrics
    val_probabilities: Probabilities  # val samples × 10
    test_probabilities: Probabilities | None  # test samples × 10; None: there is no test split
    test_accuracy: float | None
