"""Confusion matrix and mistakes, from the probabilities that a run's saved model predicted on val. Pure numpy.

N = images of val, C = 10 digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.datasets.catalog import NUM_CLASSES
from app.results.schemas import Comparison, Confusion, Mistake, Prediction, PredictionSort


@dataclass(frozen=True)
class Evaluated:
    """A saved model's predictions on the val split of its run."""

    indices: npt.NDArray[np.int32]  # N, positions in the dataset
    pixels: npt.NDArray[np.uint8]  # N × 8 × 8
    labels: npt.NDArray[np.uint8]  # N
    probabilities: npt.NDArray[np.float32]  # N × C

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        digits: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return digits


def confusion_matrix(evaluated: Evaluated) -> Confusion:
    """Count images by true and predicted digit; derive shares, precision, recall and accuracy."""
    pairs = evaluated.labels.astype(np.int64) * NUM_CLASSES + evaluated.predicted
    counts = np.bincount(pairs, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
    right = counts.diagonal()
    of_label, of_predicted = counts.sum(axis=1), counts.sum(axis=0)
    return Confusion(
        labels=list(range(NUM_CLASSES)),
        counts=counts.tolist(),
        normalized=(counts / np.maximum(of_label, 1)[:, None]).tolist(),
        precision=(right / np.maximum(of_predicted, 1)).tolist(),
        recall=(right / np.maximum(of_label, 1)).tolist(),
        accuracy=float(right.sum() / counts.sum()),
    )


def find_mistakes(evaluated: Evaluated, *, label: int | None = None, predicted: int | None = None) -> list[Mistake]:
    """Return the images that the model gets wrong, most confident first; if given, of one true or predicted digit."""
    digits = evaluated.predicted
    wrong = digits != evaluated.labels
    if label is not None:
        wrong &= evaluated.labels == label
    if predicted is not None:
        wrong &= digits == predicted
    return _describe(evaluated, np.flatnonzero(wrong))


def list_predictions(
    evaluated: Evaluated,
    *,
    label: int | None = None,
    predicted: int | None = None,
    sort: PredictionSort = "index",
    limit: int,
    after: int = 0,
) -> tuple[list[Prediction], int]:
    """Return a page of predictions, right and wrong ones, and how many there are without paging.

    Args:
        evaluated: The saved model's predictions.
        label: Only images of this digit.
        predicted: Only images that are taken for this digit.
        sort: Their order; equally confident ones stay in the dataset's order.
        limit: The most entries of the page.
        after: How many to leave out.
    """
    digits = evaluated.predicted
    wanted = np.ones(len(digits), dtype=bool)
    if label is not None:
        wanted &= evaluated.labels == label
    if predicted is not None:
        wanted &= digits == predicted
    places = np.flatnonzero(wanted)
    confidences = evaluated.probabilities[places, digits[places]]
    keys = {"index": evaluated.indices[places], "confidence": confidences, "-confidence": -confidences}
    places = places[np.lexsort((evaluated.indices[places], keys[sort]))]
    page = [
        Prediction(**vars(_describe_one(evaluated, place)), probabilities=evaluated.probabilities[place].tolist())
        for place in places[after : after + limit].tolist()
    ]
    return page, len(places)


def compare(mine: Sequence[Mistake], theirs: Sequence[Mistake], against: str) -> Comparison:
    """Split two runs' mistakes into those that only one run makes and those that both make."""
    my_indices, their_indices = {each.index for each in mine}, {each.index for each in theirs}
    return Comparison(
        against=against,
        fixed=[each for each in theirs if each.index not in my_indices],
        introduced=[each for each in mine if each.index not in their_indices],
        shared=[each for each in mine if each.index in their_indices],
    )


def _describe(evaluated: Evaluated, places: npt.NDArray[np.intp]) -> list[Mistake]:
    mistakes = [_describe_one(evaluated, place) for place in places.tolist()]
    return sorted(mistakes, key=lambda mistake: (-mistake.confidence, mistake.index))


def _describe_one(evaluated: Evaluated, place: int) -> Mistake:
    probabilities = evaluated.probabilities[place]
    digit = int(probabilities.argmax())
    return Mistake(
        index=int(evaluated.indices[place]),
        pixels=evaluated.pixels[place].tolist(),
        label=int(evaluated.labels[place]),
        predicted=digit,
        confidence=float(probabilities[digit]),
    )
