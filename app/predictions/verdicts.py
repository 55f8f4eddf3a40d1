"""Judges predictions: is the image a digit at all, and is the model sure of it? Pure numpy.

N images; pixels are float32, N × 64, 0–16. Verdicts are numbers in arrays and names in JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.predictions.instances import Pixels
from app.tables import SavedModel

Verdicts = npt.NDArray[np.uint8]

BLANK, NOT_A_DIGIT, SURE, UNSURE = map(np.uint8, range(4))
NAMES = ("blank", "not_a_digit", "sure", "unsure")  # by number; the first that holds is the verdict
BLANK_CONTRAST = 2  # an image whose pixels differ by no more than this is blank; every one of load_digits has 14
FIRST_BLOCK = 96  # train images that are looked at first
PRODUCTS_AT_ONCE = 2**18  # of a matrix product: for more, OpenBLAS takes threads, which wait for each other


class TrainImages:
    """The train images of a split, to find out how far an image is from the nearest of them.

    Args:
        pixels: Train images, M × 64, any number type.
    """

    def __init__(self, pixels: npt.NDArray[np.generic]) -> None:
        step = max(1, len(pixels) // FIRST_BLOCK)
        order = np.argsort(np.arange(len(pixels)) % step, kind="stable")  # every 13th image of 1,257, then the others
        images = pixels.reshape(len(pixels), -1)[order].astype(np.float32)
        halves = (images * images).sum(axis=1) / 2
        cut = min(FIRST_BLOCK, len(images))
        blocks = (images[:cut], halves[:cut]), (images[cut:], halves[cut:])
        # Copied: OpenBLAS takes six times as long for a few rows times a view.
        self._blocks = [(np.ascontiguousarray(block.T), of_block) for block, of_block in blocks if len(block)]
        self.num_bytes = images.nbytes + halves.nbytes

    def are_beyond(self, pixels: Pixels, distance: float) -> npt.NDArray[np.bool_]:
        """Whether the nearest train image of each image is further away than `distance` (Euclidean).

        Most digits are near enough to some of the first train images, so the others are looked at for few. For train
        images t, |x - t|² ≤ d² is the same as x·t - |t|²/2 ≥ (|x|² - d²)/2.
        """
        needed = (np.einsum("ij,ij->i", pixels, pixels) - distance * distance) / 2
        beyond = np.ones(len(pixels), bool)
        for transposed, halves in self._blocks:
            left = np.flatnonzero(beyond)
            rows = max(1, PRODUCTS_AT_ONCE // transposed.size)
            for start in range(0, len(left), rows):
                part = left[start : start + rows]
                beyond[part] = (pixels[part] @ transposed - halves).max(axis=1) < needed[part]
        return beyond

    def is_beyond(self, image: Pixels, distance: float) -> bool:
        """The same for one image (64): a third of the time."""
        needed = (float(image.dot(image)) - distance * distance) / 2
        return all(float((image @ transposed - halves).max()) < needed for transposed, halves in self._blocks)


@dataclass(frozen=True)
class Judge:
    """A saved model's thresholds, fixed by val and shifted val when it was saved (`workers/training/thresholds.py`)."""

    sure_confidence: float = math.inf
    max_energy: float = math.inf
    max_distance: float = math.inf
    train_images: TrainImages | None = None  # None: the distance does not tell

    @classmethod
    def of(cls, model: SavedModel, train_images: TrainImages | None, *, has_logits: bool) -> Judge:
        def or_infinity(threshold: float | None) -> float:
            return math.inf if threshold is None else threshold

        return cls(
            sure_confidence=or_infinity(model.sure_confidence),
            max_energy=or_infinity(model.max_energy if has_logits else None),
            max_distance=or_infinity(model.max_distance),
            train_images=None if model.max_distance is None else train_images,
        )

    @property
    def uses_energy(self) -> bool:
        return self.max_energy < math.inf

    def judge(
        self, pixels: Pixels, probabilities: npt.NDArray[np.float32], logits: npt.NDArray[np.float32] | None
    ) -> Verdicts:
        """Judge predictions.

        Args:
            pixels: Images, N × 64.
            probabilities: Predicted probabilities, N × 10.
            logits: Their logits, N × 10; None: the graph has none, or `uses_energy` is false.
        """
        if len(pixels) == 1:
            return np.array([self._judge_one(pixels[0], probabilities[0], None if logits is None else logits[0])])
        confidences = probabilities.max(axis=1)
        verdicts: Verdicts = UNSURE - (confidences >= self.sure_confidence)  # uint8: SURE is one less
        if logits is not None:
            # -logsumexp of the logits: the probability is the logit's exponential over their sum.
            energies = np.log(confidences) - logits.max(axis=1)
            verdicts[energies > self.max_energy] = NOT_A_DIGIT
        if self.train_images is not None:
            verdicts[self.train_images.are_beyond(pixels, self.max_distance)] = NOT_A_DIGIT
        verdicts[pixels.max(axis=1) - pixels.min(axis=1) <= BLANK_CONTRAST] = BLANK
        return verdicts

    def _judge_one(
        self, image: Pixels, probabilities: npt.NDArray[np.float32], logits: npt.NDArray[np.float32] | None
    ) -> np.uint8:
        """The same for one image, without the overhead of numpy for rows: a third of the time."""
        if abs(float(image[27] - image[24])) <= BLANK_CONTRAST:  # most digits have ink in the middle and none beside it
            values = image.tolist()
            if max(values) - min(values) <= BLANK_CONTRAST:
                return BLANK
        confidence = max(probabilities.tolist())
        if logits is not None and math.log(confidence) - max(logits.tolist()) > self.max_energy:
            return NOT_A_DIGIT
        if self.train_images is not None and self.train_images.is_beyond(image, self.max_distance):
            return NOT_A_DIGIT
        return SURE if confidence >= self.sure_confidence else UNSURE
