"""Data and splits: they equal the notebook's, and scaling equals torchvision's."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from workers.training.data import load_dataset, split_indices, to_tensor

SEED = 20231110


def test_the_split_is_the_notebook_s() -> None:
    _, labels = load_dataset("digits")
    everything = np.arange(len(labels))
    train, val = train_test_split(everything, test_size=0.3, random_state=SEED, stratify=labels)
    made = split_indices(labels, val_size=0.3, test_size=0.0, seed=SEED)
    assert (len(train), len(val)) == (1257, 540)
    assert np.array_equal(made.train, train)
    assert np.array_equal(made.val, val)


def test_images_are_scaled_as_torchvision_does_it() -> None:
    from torchvision.transforms import v2  # imported here: it takes seconds, and every test process loads this module

    pixels, _ = load_dataset("digits")
    images = torch.from_numpy(pixels.copy()).unsqueeze(1)  # N × 1 × 8 × 8: torchvision expects a channel axis
    as_bytes = v2.ToDtype(torch.float32, scale=True)(images)
    assert torch.equal(to_tensor(pixels, "byte"), as_bytes.reshape(-1, 64))
    to_unit = v2.Compose([v2.ToDtype(torch.float32), v2.Normalize(mean=[0.0], std=[16.0])])
    assert torch.equal(to_tensor(pixels, "unit"), to_unit(images).reshape(-1, 64))


def test_the_notebook_s_own_scaling_differs_in_the_last_place_at_most() -> None:
    from torchvision.transforms import ToTensor

    pixels, _ = load_dataset("digits")
    notebook = np.stack([ToTensor()(image).numpy().reshape(64) for image in pixels])
    np.testing.assert_array_max_ulp(to_tensor(pixels, "byte").numpy(), notebook, maxulp=1)
