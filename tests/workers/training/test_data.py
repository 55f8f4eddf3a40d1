"""Data and splits."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import train_test_split

from workers.training.data import load_dataset, split_indices

SEED = 20231110


def test_the_split_is_the_notebook_s() -> None:
    _, labels = load_dataset("digits")
    everything = np.arange(len(labels))
    train, val = train_test_split(everything, test_size=0.3, random_state=SEED, stratify=labels)
    made = split_indices(labels, val_size=0.3, test_size=0.0, seed=SEED)
    assert (len(train), len(val)) == (1257, 540)
    assert np.array_equal(made.train, train)
    assert np.array_equal(made.val, val)
