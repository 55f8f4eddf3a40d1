"""A run's data as tensors on its device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SplitTensors:
    """Scaled images, float32, N × 64, and labels, int64, N, of each split; `test` may be empty."""

    train_images: Tensor
    train_labels: Tensor
    val_images: Tensor
    val_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
