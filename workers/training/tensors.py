"""The training data of a network: scaled images as tensors, and the indices of each split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

Indices = npt.NDArray[np.int32]
SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class SplitIndices:
    """The images of a dataset that belong to each split of a run; `test` may be empty."""

    train: Indices
    val: Indices
    test: Indices


@dataclass(frozen=True)
class ImageTensors:
    """A scaled dataset on the CPU: images (floats, M × 64) and labels (int64, M). Runs of a stack may share one."""

    images: Tensor
    labels: Tensor
    scale: float = 1.0  # what pixels of 0–16 were multiplied by, in float32
