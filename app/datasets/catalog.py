"""What is known of each dataset before a worker has registered it, so that the API needs no scikit-learn."""

from __future__ import annotations

import math
from dataclasses import dataclass

NUM_PIXELS = 64
NUM_CLASSES = 10
MAX_PIXEL = 16

CANONICAL_VAL_SIZE = 0.3
CANONICAL_SPLIT_SEED = 20231110


@dataclass(frozen=True)
class DatasetInfo:
    name: str
    num_samples: int
    smallest_class: int  # images of the rarest digit
    description: str


DATASETS = {
    "digits": DatasetInfo(
        "digits",
        1797,
        174,
        "8×8 images of handwritten digits, pixels 0–16, from scikit-learn's load_digits "
        "(the test part of the UCI Optical Recognition of Handwritten Digits set).",
    )
}


@dataclass(frozen=True)
class SplitSizes:
    train: int
    val: int
    test: int


def split_sizes(num_samples: int, val_size: float, test_size: float) -> SplitSizes:
    """How many images each split gets: shares of the whole, rounded up as scikit-learn's `train_test_split` does."""
    val = math.ceil(num_samples * val_size)
    test = math.ceil(num_samples * test_size)
    return SplitSizes(num_samples - val - test, val, test)


def fold_sizes(whole: SplitSizes, number: int, num_folds: int) -> SplitSizes:
    """A split whose train split is cut into folds, of which one is val, as scikit-learn's `StratifiedKFold` cuts it."""
    fold = whole.train // num_folds + (number < whole.train % num_folds)
    return SplitSizes(whole.train - fold, fold, 0)
