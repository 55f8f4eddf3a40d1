"""The digits: how they are loaded, split and turned into tensors.

N images; pixels are uint8, N × 8 × 8, 0–16; tensors are float32, N × 64. scikit-learn is imported inside the functions
that need it: without it, a trainer starts a second sooner, and a dataset that is already registered and split needs it
no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from workers.training.config import NUM_PIXELS
from workers.training.tensors import ImageTensors, SplitIndices

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

Scaling = Literal["byte", "unit"]
MAX_PIXEL = 16.0
SCALES = {"byte": 255.0, "unit": MAX_PIXEL}


@dataclass(frozen=True)
class SplitData:
    """Raw pixels and labels of each split; `test` may be empty."""

    train_pixels: Pixels
    train_labels: Labels
    val_pixels: Pixels
    val_labels: Labels
    test_pixels: Pixels
    test_labels: Labels

    @classmethod
    def of(cls, pixels: Pixels, labels: Labels, split: SplitIndices) -> SplitData:
        parts = (split.train, split.val, split.test)
        return cls(*(array[part] for part in parts for array in (pixels, labels)))


def load_dataset(name: str) -> tuple[Pixels, Labels]:
    """A dataset from scikit-learn's own files: pixels (N × 8 × 8) and labels (N)."""
    if name != "digits":
        raise ValueError(f"unknown dataset {name!r}")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.astype(np.uint8).reshape(-1, 8, 8), labels.astype(np.uint8)


def split_indices(labels: Labels, *, val_size: float, test_size: float, seed: int) -> SplitIndices:
    """A stratified split, made with `train_test_split` as in the notebook.

    Val is drawn first, so that it does not depend on `test_size`; test is drawn from the rest.

    Args:
        labels: The labels of the whole dataset (N).
        val_size: Val's share of the whole dataset.
        test_size: Test's share of the whole dataset; 0: no test split.
        seed: The `random_state` of both draws.
    """
    from sklearn.model_selection import train_test_split

    everything = np.arange(len(labels), dtype=np.int32)
    train, val = train_test_split(everything, test_size=val_size, random_state=seed, stratify=labels)
    test = everything[:0]
    if test_size > 0:
        num_test = int(np.ceil(test_size * len(labels)))
        train, test = train_test_split(train, test_size=num_test, random_state=seed, stratify=labels[train])
    return SplitIndices(train, val, test)


def fold_indices(labels: Labels, whole: SplitIndices, *, number: int, num_folds: int) -> SplitIndices:
    """The train split without one of its folds as train, and that fold as val, as scikit-learn's GridSearchCV cuts it.

    Args:
        labels: The labels of the whole dataset (N).
        whole: The split whose train part is cut; its val and test are not used.
        number: The fold's number, from 0.
        num_folds: The number of folds.
    """
    from sklearn.model_selection import StratifiedKFold

    # The features (here zeros) do not matter to a stratified cut. The folds are positions in whole.train.
    folds = StratifiedKFold(num_folds).split(np.zeros(len(whole.train)), labels[whole.train])
    train, val = list(folds)[number]
    return SplitIndices(whole.train[train], whole.train[val], whole.test[:0])


def to_tensor(pixels: Pixels, scaling: Scaling) -> torch.Tensor:
    """Scaled images for a network: N × 64, float32, on the CPU.

    `byte` computes pixel · 1/255, as torchvision does for a uint8 image (`v2.ToDtype(torch.float32, scale=True)`). The
    notebook's `ToTensor` divides by 255, which differs by one unit in the last place at most. `unit` computes pixel /
    16, which fills 0–1. torchvision itself is not used: importing it takes more than a quarter of the time of a
    trainer's imports. Tests compare with it.
    """
    images = torch.from_numpy(pixels.astype(np.float32)).reshape(-1, NUM_PIXELS)
    return images * (1 / SCALES["byte"]) if scaling == "byte" else images / MAX_PIXEL


def to_image_tensors(pixels: Pixels, labels: Labels, scaling: Scaling) -> ImageTensors:
    """A dataset in the form that networks are trained on."""
    labels_tensor = torch.from_numpy(labels.astype(np.int64))
    return ImageTensors(to_tensor(pixels, scaling), labels_tensor, 1 / SCALES[scaling])
