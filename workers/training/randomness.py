"""Every random number of a training is a pure function of (seed, purpose, epoch, step, index).

The generator has no state. So a resumed training draws what the uninterrupted one would have drawn, and a run draws the
same numbers alone and in any slot of any stack, on every device.

The function is a counter-based generator, Philox 4×32-10: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011. `engines/draws.py` draws the same numbers in compiled code.

Shape letters: R runs in the stack, N samples of the train split, S steps of an epoch, B samples of a batch, without
padding; T hidden units of all layers of a network together, padded.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

INDEX_BITS = 21  # low bits of a sort key: the sample's number. The 32 random bits are above them: 53 bits of an int64
WORD = 2**32
LANES = 8  # 16-bit numbers in a block of 4 × 32 bits
# Elements of a temporary tensor when many blocks are drawn. It stays in the cache on a CPU; a GPU is faster
# with fewer and larger launches.
MAX_ELEMENTS = {"cpu": 2**17, "cuda": 2**24}


class Purpose(IntEnum):
    """What a number is for. It is part of the counter, so numbers of different purposes are independent."""

    INITIAL_WEIGHTS = 1
    DATA_ORDER = 2
    DROPOUT = 3
    AUGMENTATION = 4  # warped copies of images, to train on
    SHIFT = 5  # warped copies of images, to evaluate on
    COPY_CHOICE = 6  # which copy of an image an epoch trains on


def philox(index: Any, epoch: Any, purpose: Any, step: Any, key_low: Any, key_high: Any) -> tuple[Any, Any, Any, Any]:
    """One block of random bits: four 32-bit words, as 64-bit integers.

    The counter is (index, epoch, purpose, step); the key is a seed, as two 32-bit words. The same lines run on numpy
    arrays, on tensors and, compiled by Numba, on scalars. All numbers are signed 64-bit integers: a product of two
    32-bit words may wrap around to a negative number, and the masks then extract the right bits.
    """
    # Multipliers and key increments are the constants of the paper, as in Random123's philox.h.
    c0, c1, c2, c3 = index, epoch, purpose, step
    for _ in range(10):
        product0 = c0 * 0xD2511F53
        product1 = c2 * 0xCD9E8D57
        # The high half of one product is mixed with a word and the key; the low half becomes a word as it is.
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
    """Initial weights (outputs × inputs) and biases (outputs) of one run; see `linear_layers`."""
    weights, biases = linear_layers(np.array([seed]), layer, inputs, outputs)
    return weights[0], biases[0]


def linear_layers(
    seeds: npt.NDArray[np.int64], layer: int, inputs: int, outputs: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Initial weights (R × outputs × inputs) and biases (R × outputs), distributed like those of `torch.nn.Linear`.

    Both are uniform in ±1/√inputs (https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).

    Args:
        seeds: The runs' seeds (R).
        layer: The layer's number in the network, from 1.
        inputs: The layer's inputs, without padding, so that the numbers do not depend on it.
        outputs: The layer's outputs, likewise.
    """
    count = outputs * inputs + outputs
    blocks = np.arange(-(-count // 4))
    keys = seeds[:, None] & 0xFFFFFFFF, seeds[:, None] >> 32
    words = philox(blocks, 0, int(Purpose.INITIAL_WEIGHTS), layer, *keys)  # four of R × blocks
    # R × blocks × 4, flattened block by block. A word stands for the middle of one of 2^32 equal intervals.
    values = ((np.stack(words, axis=2).reshape(len(seeds), -1)[:, :count] + 0.5) * (2 / WORD) - 1) / inputs**0.5
    return values[:, : outputs * inputs].reshape(-1, outputs, inputs), values[:, outputs * inputs :]


def data_orders(seeds: Tensor, epoch: int, num_samples: int) -> Tensor:
    """The order in which an epoch visits the samples: R × N, a permutation of 0 … N - 1 for each seed (R).

    Each sample gets a random word, and the samples are sorted by it; of equal words, the earlier sample comes first.
    """
    blocks = torch.arange(-(-num_samples // 4), device=seeds.device)
    none = torch.zeros((), dtype=torch.int64, device=seeds.device)
    words = torch.stack(_draw(blocks, epoch, Purpose.DATA_ORDER, none, seeds[:, None]), dim=2)  # R × blocks × 4
    # R × N: the sample's number in the low bits breaks ties, and is what remains after the sort.
    keys = (words.flatten(1)[:, :num_samples] << INDEX_BITS) | torch.arange(num_samples, device=seeds.device)
    order: Tensor = keys.sort(dim=1).values & (2**INDEX_BITS - 1)
    return order


def copy_numbers(seeds: Tensor, epoch: int, num_samples: int, copies: Tensor) -> Tensor:
    """The copy of each sample that an epoch trains on: R × N, from 0 to the run's number of `copies` (R) - 1.

    A sample's word w, drawn like those of `data_orders`, becomes w · copies / 2^32, rounded down (D. Lemire, "Fast
    random integer generation in an interval", ACM TOMACS 29, 2019, without the rejection: with 256 copies or fewer,
    their shares differ by less than 1e-7).
    """
    blocks = torch.arange(-(-num_samples // 4), device=seeds.device)
    none = torch.zeros((), dtype=torch.int64, device=seeds.device)
    words = torch.stack(_draw(blocks, epoch, Purpose.COPY_CHOICE, none, seeds[:, None]), dim=2)  # R × blocks × 4
    return (words.flatten(1)[:, :num_samples] * copies[:, None]) >> 32


def dropout_lanes(seeds: Tensor, epoch: int, num_steps: int, batch_size: int, num_units: int) -> Tensor:
    """Random 16-bit numbers, R × S × B × T: a unit is dropped for a sample where its number is below 65536 × rate.

    A block of 8 lanes serves one unit for 8 samples, rather than 8 units for one sample: so the compiled code uses up
    the blocks in straight loops over units, which become vector code.
    """
    device = seeds.device
    groups = -(-batch_size // LANES)
    units = torch.arange(groups * num_units, device=device)  # a block's index: group · T + unit
    lanes = torch.empty(len(seeds), num_steps, batch_size, num_units, dtype=torch.int32, device=device)
    steps_at_once = max(1, MAX_ELEMENTS[device.type] // (len(seeds) * len(units)))
    for start in range(0, num_steps, steps_at_once):
        # Some of the S steps at a time: four words, R × steps × (groups · T) each.
        steps = torch.arange(start, min(start + steps_at_once, num_steps), device=device)
        words = _draw(units, epoch, Purpose.DROPOUT, steps[:, None], seeds[:, None, None])
        # Lanes 0 to 7: the low half of the first word, its high half, the low half of the second and so on.
        halves = [half.to(torch.int32) for word in words for half in (word & 0xFFFF, word >> 16)]
        grouped = [half.view(len(seeds), -1, groups, num_units) for half in halves]
        drawn = torch.stack(grouped, dim=3)  # R × steps × groups × 8 × T
        # Groups and lanes together are the batch, whose last group may have lanes to spare.
        lanes[:, start : start + len(steps)] = drawn.flatten(2, 3)[:, :, :batch_size]
    return lanes


def dropout_threshold(rate: float) -> int:
    """The threshold below which a 16-bit number drops its unit; the rate is rounded to 1/65536."""
    return round(rate * 2**16)


def _draw(index: Tensor, epoch: int, purpose: Purpose, step: Tensor, seeds: Tensor) -> tuple[Tensor, ...]:
    """Blocks of the shape to which index, step and seeds are broadcast: four words of this shape."""
    return philox(index, epoch, int(purpose), step, seeds & 0xFFFFFFFF, seeds >> 32)
