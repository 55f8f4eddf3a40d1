"""What a network trains on: scaled images as tensors, and which of them a run uses for what."""

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
    """Which images of a dataset a run uses for what; `test` may be empty."""

    train: Indices
    val: Indices
    test: Indices


@dataclass(frozen=True)
class ImageTensors:
    """A dataset, scaled: images, floats, M × 64, and labels, int64, M; on the CPU. Runs of a stack may share one."""

    images: Tensor
    labels: Tensor
