"""Facts about each dataset that hold before a worker has registered it, so that the API needs no scikit-learn."""

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
    """Compute the number of images in each split; shares are rounded up, as in scikit-learn's `train_test_split`."""
    val = math.ceil(num_samples * val_size)
    test = math.ceil(num_samples * test_size)
    return SplitSizes(num_samples - val - test, val, test)


def fold_sizes(whole: SplitSizes, number: int, num_folds: int) -> SplitSizes:
    """Compute the sizes when one fold of the train split is val, as scikit-learn's `StratifiedKFold` cuts folds."""
    fold = whole.train // num_folds + (number < whole.train % num_folds)
    return SplitSizes(whole.train - fold, fold, 0)
