"""Every random number of a training is a pure function of (seed, purpose, epoch).

Nothing is carried from epoch to epoch, so a resumed training draws what the uninterrupted one would have drawn, on
every device.

Counter-based: Philox 4×64, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, as numpy has it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What a stream of random numbers is for; streams of different purposes have nothing in common."""

    INITIAL_WEIGHTS = 1
    DATA_ORDER = 2
    DROPOUT = 3


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> np.random.Generator:
    """The stream for one purpose in one epoch.

    The key holds seed and purpose; the counter's top word holds the epoch, so that streams of different epochs lie
    2**192 blocks apart.
    """
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, 0, 0, epoch]))


def data_order(seed: int, epoch: int, num_samples: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch visits the samples: a permutation of 0 … num_samples - 1."""
    return generator(seed, Purpose.DATA_ORDER, epoch).permutation(num_samples)


def linear_layer(stream: np.random.Generator, inputs: int, outputs: int) -> tuple[npt.NDArray[np.float32], ...]:
    """Initial weights (outputs × inputs) and biases (outputs), distributed as `torch.nn.Linear`'s.

    Both are uniform within ±1/√inputs (https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html).
    """
    bound = 1.0 / np.sqrt(inputs)
    weights = stream.uniform(-bound, bound, (outputs, inputs))
    biases = stream.uniform(-bound, bound, outputs)
    return weights.astype(np.float32), biases.astype(np.float32)


def dropout_factors(stream: np.random.Generator, rate: float, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """What activations are multiplied by: 0 with probability `rate`, else 1/(1 - rate) (inverted dropout)."""
    kept = stream.random(shape, dtype=np.float32) >= np.float32(rate)
    return kept * np.float32(1.0 / (1.0 - rate))
