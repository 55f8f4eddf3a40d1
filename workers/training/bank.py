"""Banks: warped copies of a dataset's images, made once for each strength, from which every epoch picks.

A bank is as good as fresh copies: trained for 300 epochs on 256 copies of each image, networks answer foreign digits as
well as on new copies each epoch (.909 and .912 ± .006 of them right).

Shape letters: K copies, M images of a dataset.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from workers.training.augmentation import Pixels, make_copies
from workers.training.randomness import Purpose

MAX_BANKS = 2  # of a device; the one that was not asked for the longest gives way


class Banks:
    """The banks of a process. They outlive a stack: the next one does not make them again.

    Args:
        on_copy: Called after each copy of all images, by the thread that made it.
    """

    def __init__(self, on_copy: Callable[[], None] | None = None) -> None:
        self._on_copy = on_copy
        self._banks: dict[tuple[torch.device, str, float], Tensor] = {}  # the one asked for last is the last one

    def get(self, dataset: str, pixels: Pixels, strength: float, num_copies: int, device: torch.device) -> Tensor:
        """A bank of at least `num_copies` copies: K × M × 64, uint8, on the device.

        Args:
            dataset: The dataset's name.
            pixels: All its images (M × 8 × 8).
            strength: See `augmentation.make_copies`.
            num_copies: A bank that holds fewer grows. What it holds stays as it is.
            device: Of the bank.
        """
        key = device, dataset, strength
        bank = self._banks.pop(key, None)
        num_made = 0 if bank is None else len(bank)
        if num_made < num_copies:
            made = make_copies(pixels, num_made, num_copies, strength, Purpose.AUGMENTATION, on_copy=self._on_copy)
            # torch's memory begins at a multiple of 64 bytes: each copy of an image is one line of a CPU's cache.
            grown = torch.empty(num_copies, *made.shape[1:], dtype=torch.uint8, device=device)
            grown[num_made:] = torch.from_numpy(made)
            if bank is not None:
                grown[:num_made] = bank
            bank = grown
        assert bank is not None, "one copy at least was asked for"
        on_device = [each for each in self._banks if each[0] == device]
        for oldest in on_device[: max(0, len(on_device) - MAX_BANKS + 1)]:
            del self._banks[oldest]
        self._banks[key] = bank
        return bank
