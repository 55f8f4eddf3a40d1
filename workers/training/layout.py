"""Where the parameters of a network lie in a flat row, its widths padded.

Widths are padded with zeros to multiples of 16, and so are the 10 classes. So all runs of a stack have the same shape,
and on a CPU a run's sums are added up in the same order alone and in any slot of any stack. A row of P numbers, for
64-12-10:

    | weights1  64 × 16 | biases1  16 | weights2  16 × 16 | biases2  16 |
    starts[0]           |             starts[1]                         starts[2] = P

    weights1, row d:  | 12 weights of input d | 0 0 0 0 |

Shape letters: L layers; P parameters of a network, padding included; D inputs and H outputs of a layer, padded too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from workers.training.checkpoint import Array
from workers.training.config import NUM_CLASSES, NUM_PIXELS

MULTIPLE = 16  # the width of a tile of the compiled engine, and a whole number of common CPUs' vectors

Floats = npt.NDArray[np.floating]


def pad(width: int) -> int:
    """The next multiple of 16."""
    return -(-width // MULTIPLE) * MULTIPLE  # -(-a // b) is a / b rounded up


@dataclass(frozen=True)
class Layout:
    """The padded shape of a network. Each layer is its weights (D × H), followed by its biases (H)."""

    hidden_sizes: tuple[int, ...]  # padded

    @classmethod
    def of(cls, hidden_sizes: Sequence[int]) -> Layout:
        return cls(tuple(pad(width) for width in hidden_sizes))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Pixels, hidden widths, classes, all padded (64 and 16 at the ends): L + 1 numbers."""
        return (NUM_PIXELS, *self.hidden_sizes, pad(NUM_CLASSES))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each layer begins in a row; the last number is the row's length P: L + 1 numbers."""
        starts = [0]
        for inputs, outputs in pairwise(self.sizes):
            starts.append(starts[-1] + inputs * outputs + outputs)  # D·H weights, H biases
        return tuple(starts)

    @property
    def num_parameters(self) -> int:
        return self.starts[-1]

    @property
    def num_hidden(self) -> int:
        """The hidden units of all layers together, padded."""
        return sum(self.hidden_sizes)


def widths(hidden_sizes: Sequence[int]) -> tuple[int, ...]:
    """Pixels, hidden widths, classes, without padding: L + 1 numbers."""
    return (NUM_PIXELS, *hidden_sizes, NUM_CLASSES)


def write_layers(layout: Layout, hidden_sizes: Sequence[int], layers: Mapping[str, Array], rows: Floats) -> None:
    """Write a network's layers into its row (P), and zeros into the padding; or those of several networks (R × P).

    Args:
        layout: Of the rows.
        hidden_sizes: Of the networks, without padding.
        layers: `weights1` (outputs × inputs, as in `torch.nn.Linear`), `biases1`, `weights2` and so on; of several
            networks, each has a first axis of R.
        rows: Output (P or R × P), overwritten.
    """
    rows[...] = 0  # the padding stays 0 in training: its gradients are 0
    for number, (weights, biases) in enumerate(_views(layout, hidden_sizes, rows), start=1):
        # torch's weights are H × D; here they are D × H, so that a batch (B × D) is multiplied from the left.
        weights[...] = layers[f"weights{number}"].swapaxes(-1, -2)
        biases[...] = layers[f"biases{number}"]


def read_layers(layout: Layout, hidden_sizes: Sequence[int], row: Floats) -> dict[str, Floats]:
    """Copy a network's layers out of its row (P), in the form that `write_layers` takes."""
    layers: dict[str, Floats] = {}
    for number, (weights, biases) in enumerate(_views(layout, hidden_sizes, row), start=1):
        layers[f"weights{number}"] = weights.T.copy(order="C")  # outputs × inputs, contiguous
        layers[f"biases{number}"] = biases.copy()
    return layers


def _views(layout: Layout, hidden_sizes: Sequence[int], rows: Floats) -> list[tuple[Floats, Floats]]:
    """Views of each layer's weights (… inputs × outputs) and biases (… outputs) in rows (… P), without the padding."""
    views = []
    sizes = pairwise(layout.sizes)  # (D, H) of each layer
    for start, (inputs, outputs), (width_in, width_out) in zip(
        layout.starts, sizes, pairwise(widths(hidden_sizes)), strict=False
    ):
        end = start + inputs * outputs
        weights = rows[..., start:end].reshape(*rows.shape[:-1], inputs, outputs)  # … D × H: a view, as rows are whole
        views.append((weights[..., :width_in, :width_out], rows[..., end : end + width_out]))
    return views
