"""Every random number of a training is a pure function of (seed, purpose, epoch, index).

Nothing is carried from one number to the next, so a resumed training draws what the uninterrupted one would have drawn,
and a run draws the same alone and in any slot of any stack, on every device.

Counter-based: Philox 4×32-10, J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

R runs in the stack, N samples of the train split, S steps of an epoch, B batch, T hidden units of a network, padded.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

INDEX_BITS = 21  # of a sort key, which has 32 random ones above them
WORD = 2**32
LANES = 8  # 16-bit numbers in a block
# Of a temporary when many blocks are drawn: on a CPU it stays in the cache, on a GPU launches are what costs.
MAX_ELEMENTS = {"cpu": 2**17, "cuda": 2**24}


class Purpose(IntEnum):
    """What a number is for; numbers of different purposes have nothing in common."""

    INITIAL_WEIGHTS = 1
    DATA_ORDER = 2
    DROPOUT = 3


def philox(index: Any, epoch: Any, purpose: Any, step: Any, key_low: Any, key_high: Any) -> tuple[Any, Any, Any, Any]:
    """A block: four 32-bit words, as 64-bit integers.

    The counter is (index, epoch, purpose, step), the key a seed. These lines run on arrays and tensors as they stand,
    and compiled on scalars; a product that wraps around to a negative number is put right by the masks.
    """
    c0, c1, c2, c3 = index, epoch, purpose, step
    for _ in range(10):
        product0 = c0 * 0xD2511F53
        product1 = c2 * 0xCD9E8D57
        c0 = ((product1 >> 32) & 0xFFFFFFFF) ^ c1 ^ key_low
        c1 = product1 & 0xFFFFFFFF
        c2 = ((product0 >> 32) & 0xFFFFFFFF) ^ c3 ^ key_high
        c3 = product0 & 0xFFFFFFFF
        key_low = (key_low + 0x9E3779B9) & 0xFFFFFFFF
        key_high = (key_high + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def linear_layer(
    seed: int, layer: int, inputs: int, outputs: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Initial weights (outputs × inputs) and biases (outputs), distributed as `torch.nn.Linear`'s.

    Both are uniform within ±1/√inputs (https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).

    Args:
        seed: The run's.
        layer: Its number in the network, from 1.
        inputs: Of the layer, without padding.
        outputs: Likewise.
    """
    count = outputs * inputs + outputs
    blocks = np.arange(-(-count // 4))
    words = philox(blocks, 0, int(Purpose.INITIAL_WEIGHTS), layer, seed & 0xFFFFFFFF, seed >> 32)
    values = ((np.stack(words, axis=1).ravel()[:count] + 0.5) * (2 / WORD) - 1) / inputs**0.5
    return values[: outputs * inputs].reshape(outputs, inputs), values[outputs * inputs :]


def data_orders(seeds: Tensor, epoch: int, num_samples: int) -> Tensor:
    """In which order an epoch visits the samples: R × N, a permutation of 0 … N - 1 for each seed (R).

    The samples are sorted by a random word each; of equal words, the earlier sample comes first.
    """
    blocks = torch.arange(-(-num_samples // 4), device=seeds.device)
    none = torch.zeros((), dtype=torch.int64, device=seeds.device)
    words = torch.stack(_draw(blocks, epoch, Purpose.DATA_ORDER, none, seeds[:, None]), dim=2)
    keys = (words.flatten(1)[:, :num_samples] << INDEX_BITS) | torch.arange(num_samples, device=seeds.device)
    order: Tensor = keys.sort(dim=1).values & (2**INDEX_BITS - 1)
    return order


def dropout_lanes(seeds: Tensor, epoch: int, num_steps: int, batch_size: int, num_units: int) -> Tensor:
    """Random 16-bit numbers, R × S × B × T: a unit is dropped for a sample where its number is below 65536 × rate.

    Eight samples share a block for each unit, so that a block's words are used up by a straight loop over units.
    """
    device = seeds.device
    groups = -(-batch_size // LANES)
    units = torch.arange(groups * num_units, device=device)
    lanes = torch.empty(len(seeds), num_steps, batch_size, num_units, dtype=torch.int32, device=device)
    steps_at_once = max(1, MAX_ELEMENTS[device.type] // (len(seeds) * len(units)))
    for start in range(0, num_steps, steps_at_once):
        steps = torch.arange(start, min(start + steps_at_once, num_steps), device=device)
        words = _draw(units, epoch, Purpose.DROPOUT, steps[:, None], seeds[:, None, None])
        halves = [half.to(torch.int32) for word in words for half in (word & 0xFFFF, word >> 16)]
        grouped = [half.view(len(seeds), -1, groups, num_units) for half in halves]
        drawn = torch.stack(grouped, dim=3)  # R × S × groups × 8 × T
        lanes[:, start : start + len(steps)] = drawn.flatten(2, 3)[:, :, :batch_size]
    return lanes


def dropout_threshold(rate: float) -> int:
    """Below which of 65536 a 16-bit number drops its unit."""
    return round(rate * 2**16)


def _draw(index: Tensor, epoch: int, purpose: Purpose, step: Tensor, seeds: Tensor) -> tuple[Tensor, ...]:
    return philox(index, epoch, int(purpose), step, seeds & 0xFFFFFFFF, seeds >> 32)
