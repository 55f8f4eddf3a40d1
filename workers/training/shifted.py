"""Shifted val: how well a saved model holds up on digits that were drawn a little differently.

Each val image is warped in K = 10 ways. The copies come from the method of training's augmentation with other numbers,
so no network has seen them. N are the images of the dataset, V those of val, C = 10 classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from workers.training import export
from workers.training.augmentation import make_copies
from workers.training.config import NUM_CLASSES, NUM_PIXELS
from workers.training.data import Labels, Pixels
from workers.training.randomness import Purpose
from workers.training.tensors import SplitIndices
from workers.training.thresholds import Judged, Thresholds, bound_distance, choose_thresholds

Indices = npt.NDArray[np.int32]
Distances = npt.NDArray[np.float32]

NUM_COPIES = 10
STRENGTH = 1.0
ROWS_AT_ONCE = 1024  # of a matrix of distances, which takes 5 MB


@dataclass(frozen=True, eq=False)  # compared as objects: arrays have no hash
class SplitImages:
    """A dataset (pixels N × 8 × 8, labels N) and its split; runs of one split share one, and what is made from it."""

    pixels: Pixels
    labels: Labels
    split: SplitIndices

    @property
    def val_pixels(self) -> Pixels:
        return self.pixels[self.split.val]


@dataclass(frozen=True)
class Evaluation:
    """A saved model's evaluation on shifted val, and the thresholds of its verdicts."""

    accuracy: float
    loss: float  # mean cross-entropy in nats, clipped as val's
    standard_error: float  # of the accuracy, clustered by val image
    right: bytes  # V × K bits, the K copies of the first val image first
    thresholds: Thresholds


def warm_up() -> None:
    """Load the compiled code that warps images, or compile it; without another thread, so that a process may fork."""
    make_copies(np.zeros((1, 8, 8), np.uint8), 0, 1, STRENGTH, Purpose.SHIFT, threads=1)


def evaluate(graph: bytes, images: SplitImages) -> Evaluation:
    """Evaluate an ONNX graph on shifted val, and fix its thresholds by val and shifted val."""
    session = export.open_session(graph)
    return evaluate_session(session, run_on_val(session, images), images)


def run_on_val(session: InferenceSession, images: SplitImages) -> export.Answers:
    return export.run(session, _inputs(images).val)


def evaluate_session(session: InferenceSession, on_val: export.Answers, images: SplitImages) -> Evaluation:
    """Evaluate a graph whose session is open already.

    Args:
        session: Runs the graph.
        on_val: What the graph computes for the val images.
        images: The dataset, and the split that the model was trained on.
    """
    inputs = _inputs(images)
    on_shifted = export.run(session, inputs.shifted)
    own = on_shifted.probabilities.take(inputs.places)
    right = (on_shifted.probabilities.argmax(axis=1) == inputs.shifted_labels).reshape(-1, NUM_COPIES)
    has_logits = on_val.energies is not None
    val_distances, shifted_distances = inputs.distances if has_logits else (None, None)
    thresholds = choose_thresholds(
        Judged(on_val.confidences, on_val.energies, val_distances),
        Judged(on_shifted.confidences, on_shifted.energies, shifted_distances),
        right.ravel(),
        inputs.max_distance if has_logits else None,
    )
    return Evaluation(
        accuracy=float(right.mean()),
        loss=_loss(own),
        standard_error=clustered_error(right),
        right=np.packbits(right).tobytes(),
        thresholds=thresholds,
    )


def make_shifted_val(pixels: Pixels, val: Indices) -> Pixels:
    """The warped copies of val: V·K × 64, the K copies of the first image first.

    Args:
        pixels: The dataset's images, N × 8 × 8: what a copy looks like depends on an image's number in its dataset.
        val: The numbers of the val images.
    """
    copies = _make_bank(pixels.tobytes())[:, val]
    return np.ascontiguousarray(copies.transpose(1, 0, 2)).reshape(-1, NUM_PIXELS)


def clustered_error(right: npt.NDArray[np.bool_]) -> float:
    """The standard error of the mean of V × K values, of which the K in a row belong to one image.

    Copies of an image are no independent samples, so it is the standard error of the mean of the images' means
    (Cameron and Miller, 2015, "A practitioner's guide to cluster-robust inference", for clusters of equal size).
    """
    means = right.mean(axis=1)
    return float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else 0.0


def _loss(probabilities: npt.NDArray[np.float32]) -> float:
    """Mean cross-entropy by the probabilities of the true digits, clipped as scikit-learn's `log_loss` does."""
    epsilon = float(np.finfo(np.float32).eps)
    return float(-np.log(probabilities.astype(np.float64).clip(epsilon, 1 - epsilon)).mean())


@lru_cache(maxsize=2)
def _make_bank(pixels: bytes) -> Pixels:
    """The copies of a whole dataset, K × N × 64: made once, for all splits (1.2 MB for 1,797 images)."""
    return make_copies(np.frombuffer(pixels, np.uint8).reshape(-1, 8, 8), 0, NUM_COPIES, STRENGTH, Purpose.SHIFT)


class _Inputs:
    """What the evaluations of all models of a split share, in the form that they need."""

    def __init__(self, images: SplitImages) -> None:
        self._images = images
        labels = images.labels[images.split.val]
        self.val = export.as_input(images.val_pixels)  # V × 64
        self.shifted = export.as_input(make_shifted_val(images.pixels, images.split.val))  # V·K × 64
        self.shifted_labels = np.repeat(labels, NUM_COPIES)
        # Where the probabilities of the true digits lie in all probabilities, V·K: a sixth of the time of two indices.
        self.places = np.arange(len(self.shifted_labels)) * NUM_CLASSES + self.shifted_labels

    @cached_property
    def distances(self) -> tuple[Distances, Distances]:
        """The distances of val (V) and of shifted val (V·K) to the nearest train image."""
        train, val = self._images.split.train, self._images.split.val
        return _cached_distances(
            self._images.pixels.tobytes(), *(each.astype(np.int32).tobytes() for each in (train, val))
        )

    @cached_property
    def max_distance(self) -> float:
        return bound_distance(*self.distances)


@lru_cache(maxsize=8)  # 1.5 MB each: the runs of a stack may have a split each
def _inputs(images: SplitImages) -> _Inputs:
    return _Inputs(images)


@lru_cache(maxsize=8)
def _cached_distances(pixels: bytes, train: bytes, val: bytes) -> tuple[Distances, Distances]:
    """See `_Inputs.distances`: computed once, also for splits that are read again."""
    everything = np.frombuffer(pixels, np.uint8).reshape(-1, NUM_PIXELS)
    train_images, val_numbers = everything[np.frombuffer(train, np.int32)], np.frombuffer(val, np.int32)
    shifted = make_shifted_val(everything, val_numbers)
    return nearest(everything[val_numbers], train_images), nearest(shifted, train_images)


def nearest(images: Pixels, train: Pixels) -> Distances:
    """The Euclidean distance of each image to the nearest train image; both are … × 64."""
    references = train.astype(np.float32)
    halves = (references**2).sum(axis=1) / 2
    found = []
    for start in range(0, len(images), ROWS_AT_ONCE):
        rows = images[start : start + ROWS_AT_ONCE].astype(np.float32)
        closest = (rows @ references.T - halves).max(axis=1)  # x·t - |t|²/2 is largest for the nearest t
        found.append(np.sqrt(np.maximum((rows**2).sum(axis=1) - 2 * closest, 0)))
    return np.concatenate(found)
