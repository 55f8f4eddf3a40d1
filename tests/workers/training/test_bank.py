"""Banks: made once, grown where more copies are asked for, and at most two of a device."""

from __future__ import annotations

import numpy as np
import torch

from tests.workers.training.conftest import CPU
from workers.training.augmentation import make_copies
from workers.training.bank import Banks
from workers.training.data import load_dataset
from workers.training.randomness import Purpose

PIXELS = load_dataset("digits")[0][:20]


def test_a_bank_is_made_once_and_grows() -> None:
    made: list[None] = []
    banks = Banks(on_copy=lambda: made.append(None))
    small = banks.get("digits", PIXELS, 1.0, 3, CPU)
    assert small.shape == (3, 20, 64)
    assert banks.get("digits", PIXELS, 1.0, 2, CPU) is small
    assert len(made) == 3
    large = banks.get("digits", PIXELS, 1.0, 7, CPU)
    assert len(made) == 7, "the first three are not made again"
    assert np.array_equal(large.numpy(), make_copies(PIXELS, 0, 7, 1.0, Purpose.AUGMENTATION))
    assert torch.equal(large[:3], small)
    assert large.data_ptr() % 64 == 0


def test_the_bank_that_was_not_asked_for_the_longest_gives_way() -> None:
    made: list[None] = []
    banks = Banks(on_copy=lambda: made.append(None))
    first, second, third = 0.5, 1.0, 1.5
    for strength in (first, second, first, third):  # the third takes the place of the second
        banks.get("digits", PIXELS, strength, 1, CPU)
    assert len(made) == 3
    banks.get("digits", PIXELS, first, 1, CPU)
    banks.get("digits", PIXELS, third, 1, CPU)
    assert len(made) == 3
    banks.get("digits", PIXELS, second, 1, CPU)
    assert len(made) == 4


def test_each_device_has_banks_of_its_own() -> None:
    made: list[None] = []
    banks = Banks(on_copy=lambda: made.append(None))
    for strength in (0.5, 1.0):
        for device in (CPU, torch.device("meta")):
            banks.get("digits", PIXELS, strength, 1, device)
    assert len(made) == 4
    banks.get("digits", PIXELS, 0.5, 1, CPU)
    assert len(made) == 4
