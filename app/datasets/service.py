"""Reads datasets. A worker registers them; until then only their names and sizes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from app import blobs
from app.datasets import repository
from app.datasets.catalog import CANONICAL_SPLIT_SEED, CANONICAL_VAL_SIZE, DATASETS, NUM_CLASSES, DatasetInfo
from app.errors import DamagedData, NotFound, Unavailable
from app.tables import Split

NOT_READY_RETRY_SECONDS = 5
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Images:
    """A dataset's images: `pixels` uint8 N × 8 × 8, values 0–16; `labels` uint8 N."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    sha256: str

    def class_counts(self, indices: npt.NDArray[np.int32] | None = None) -> list[int]:
        """Count the images of each digit, among all images or those at `indices`."""
        labels = self.labels if indices is None else self.labels[indices]
        counts: list[int] = np.bincount(labels, minlength=NUM_CLASSES).tolist()
        return counts


def get_info(name: str) -> DatasetInfo:
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise NotFound(f"There is no dataset {name!r}. There are: {known}.", slug="dataset-not-found")
    return DATASETS[name]


def get_images(session: Session, name: str) -> Images:
    """Return a dataset's images, verified against their sha256.

    Raises:
        NotFound: There is no such dataset.
        Unavailable: No worker has registered it yet.
        DamagedData: The stored images do not match their sha256.
    """
    get_info(name)
    dataset = repository.get_dataset(session, name)
    if dataset is None:
        raise not_registered(name)
    if blobs.digest(dataset.pixels + dataset.labels) != dataset.sha256:
        raise DamagedData(f"The images of dataset {name} do not match their sha256.")
    pixels = np.frombuffer(dataset.pixels, np.uint8).reshape(dataset.num_samples, 8, 8)
    return Images(pixels, np.frombuffer(dataset.labels, np.uint8), dataset.sha256)


def not_registered(name: str) -> Unavailable:
    return Unavailable(
        f"Dataset {name} has not been registered yet: a worker does that when it starts.",
        slug="dataset-not-ready",
        headers={"Retry-After": str(NOT_READY_RETRY_SECONDS)},
    )


def canonical_indices(session: Session, name: str, part: str) -> npt.NDArray[np.int32]:
    """Return the indices of the images in `train` or `val` of the notebook's split.

    Raises:
        Unavailable: No worker has registered the split yet.
    """
    split = repository.get_split(session, name, val_size=CANONICAL_VAL_SIZE, test_size=0.0, seed=CANONICAL_SPLIT_SEED)
    if split is None:
        raise not_registered(name)
    return indices(split, part)


def select(session: Session, name: str, images: Images, part: str | None, label: int | None) -> npt.NDArray[np.integer]:
    """Return the indices of the images in a part of the notebook's split, in its order, with a label; None: any."""
    found: npt.NDArray[np.integer]
    found = np.arange(len(images.labels)) if part is None else canonical_indices(session, name, part)
    return found if label is None else found[images.labels[found] == label]


def indices(split: Split, part: str) -> npt.NDArray[np.int32]:
    """Return the indices of the images in `train`, `val` or `test`."""
    return np.frombuffer({"train": split.train, "val": split.val, "test": split.test}[part], np.int32)


def get_train_pixels(session: Session, name: str, split: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the train images of a split, M × 8 × 8.

    Args:
        session: A session.
        name: The dataset's name.
        split: Columns that identify the split in its table.

    Raises:
        NotFound: There is no such dataset.
        Unavailable: No worker has registered the dataset or the split.
        DamagedData: The stored images do not match their sha256.
    """
    images = get_images(session, name)
    found = repository.get_split(session, name, **split)
    if found is None:
        raise not_registered(name)
    return images.pixels[indices(found, "train")]


def list_splits(session: Session, name: str) -> Sequence[Split]:
    return repository.list_splits(session, name)
