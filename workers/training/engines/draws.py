"""The random draws of one network, compiled by Numba: the order of the samples, their copies, and dropout.

Shape letters: N samples of the train split; T hidden units of all layers together, padded to a multiple of 16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from workers.training import randomness
from workers.training.engines.compilation import OPTIONS, Array, compiled

BUCKET_BITS = 11  # of a word, that one pass of the radix sort looks at: three passes for 32 bits
NUM_BUCKETS = 2**BUCKET_BITS
DROPOUT, DATA_ORDER = int(randomness.Purpose.DROPOUT), int(randomness.Purpose.DATA_ORDER)
COPY_CHOICE = int(randomness.Purpose.COPY_CHOICE)

# `inline="always"` copies the body to each place that calls it: LLVM does not vectorize a loop around a call.
philox: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)(randomness.philox)


@compiled
def draw_order(seed: int, epoch: int, num_samples: int) -> Array:
    """The order (N) of `randomness.data_orders` for one seed: samples sorted by their random words, ties by number.

    A radix sort from the lowest bits to the highest, each pass a stable distribution into 2048 buckets (D. E. Knuth,
    "The Art of Computer Programming", volume 3, section 5.2.5).
    """
    words = np.empty(num_samples + 3, np.uint32)  # a block is four words: the last one may run over by three
    for block in range((num_samples + 3) // 4):
        w0, w1, w2, w3 = philox(block, epoch, DATA_ORDER, 0, seed & 0xFFFFFFFF, seed >> 32)
        words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = w0, w1, w2, w3
    order = np.arange(num_samples)
    sorted_order = np.empty_like(order)
    places = np.empty(NUM_BUCKETS, np.int64)
    for shift in range(0, 32, BUCKET_BITS):  # bits 0 to 10, 11 to 21, 22 to 31
        places[:] = 0  # first: how many samples each bucket gets
        for i in range(num_samples):
            places[(words[i] >> shift) & (NUM_BUCKETS - 1)] += 1
        total = 0  # then: where each bucket begins, the sum of the counts before it
        for digit in range(NUM_BUCKETS):
            count = places[digit]
            places[digit] = total
            total += count
        for i in range(num_samples):  # in the order so far, which makes the pass stable
            digit = (words[order[i]] >> shift) & (NUM_BUCKETS - 1)
            sorted_order[places[digit]] = order[i]
            places[digit] += 1
        order, sorted_order = sorted_order, order
    return order


@compiled
def draw_copies(seed: int, epoch: int, num_samples: int, num_copies: int) -> Array:
    """The numbers (N) of `randomness.copy_numbers` for one seed."""
    chosen = np.empty(num_samples + 3, np.int64)
    for block in range((num_samples + 3) // 4):
        w0, w1, w2, w3 = philox(block, epoch, COPY_CHOICE, 0, seed & 0xFFFFFFFF, seed >> 32)
        chosen[4 * block], chosen[4 * block + 1] = (w0 * num_copies) >> 32, (w1 * num_copies) >> 32
        chosen[4 * block + 2], chosen[4 * block + 3] = (w2 * num_copies) >> 32, (w3 * num_copies) >> 32
    return chosen[:num_samples]


@compiled
def draw_dropout(seed: int, epoch: int, step: int, threshold: int, scale: Any, out: Array) -> None:
    """Write what hidden values are multiplied by to `out`: 0, or `scale` = 1 / (1 - rate), which is inverted dropout.

    The method is that of N. Srivastava et al., "Dropout", JMLR 15, 2014, scaled in training as in torch.nn.Dropout.
    The random numbers are those of `randomness.dropout_lanes` for one seed and step. `out` is groups × 8 × T: sample
    8·group + lane of the batch, hidden unit of all layers together.
    """
    zero, num_units = out.dtype.type(0), out.shape[2]
    low, high = seed & 0xFFFFFFFF, seed >> 32
    words = np.empty((4, num_units), np.int64)  # 4 × T: a group's block of four 32-bit words for each unit
    words0, words1, words2, words3 = words[0], words[1], words[2], words[3]
    for group in range(out.shape[0]):
        for unit in range(num_units):  # T; stored by word, so that the loops below read neighbours
            w0, w1, w2, w3 = philox(group * num_units + unit, epoch, DROPOUT, step, low, high)
            words0[unit], words1[unit], words2[unit], words3[unit] = w0, w1, w2, w3
        for number in range(4):  # a word's low half is for lane 2·number, its high half for the next lane
            halves, even, odd = words[number], out[group, 2 * number], out[group, 2 * number + 1]
            for unit in range(num_units):  # T
                even[unit] = scale if (halves[unit] & 0xFFFF) >= threshold else zero
                odd[unit] = scale if (halves[unit] >> 16) >= threshold else zero
