"""A stack: R runs' parameters, optimizer state and settings, side by side on one device.

What its runs must share is its shape: padded hidden widths, batch size, optimizer kind, sizes of the splits. Everything
else may differ. How an epoch of it is computed is an engine's business: `compiled.py` on a CPU, `batched.py` elsewhere.

R runs, P parameters of a network, padding included; N samples of a split; M images of all datasets together; D = 64
pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.training import randomness
from workers.training.config import MlpConfig
from workers.training.layout import Layout, widths, write_layers
from workers.training.tensors import ImageTensors, SplitIndices, SplitName

ACTIVATIONS = ("sigmoid", "tanh", "relu")


class Member(NamedTuple):
    """One run of a stack: what to train, on what."""

    config: MlpConfig
    data: ImageTensors
    split: SplitIndices


class Setting(IntEnum):
    """Columns of a stack's settings: what may differ from run to run, as numbers."""

    LEARNING_RATE = 0
    MOMENTUM = 1
    WEIGHT_DECAY = 2
    BETA1 = 3
    BETA2 = 4
    EPSILON = 5
    KEEP_SCALE = 6  # what a unit that dropout keeps is multiplied by


class Tally(NamedTuple):
    """Over a split, for each run: the sum of cross-entropies in nats, and how many answers were right."""

    losses: npt.NDArray[np.float64]
    corrects: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """What the runs of a stack share."""

    layout: Layout
    batch_size: int  # at most the train split's size: then it is a full batch
    is_adam: bool
    split_sizes: tuple[int, int, int]

    @classmethod
    def of(cls, member: Member) -> Shape:
        config, split = member.config, member.split
        batch_size = min(config.batch_size or len(split.train), len(split.train))
        sizes = (len(split.train), len(split.val), len(split.test))
        return cls(Layout.of(config.hidden_sizes), batch_size, config.optimizer.kind == "adam", sizes)

    @property
    def num_train(self) -> int:
        return self.split_sizes[0]

    @property
    def num_steps(self) -> int:
        """Of an epoch; the last batch may be smaller than the others."""
        return math.ceil(self.num_train / self.batch_size)


@dataclass
class Stack:
    """The tensors of R runs; row r of each belongs to the run in slot r."""

    shape: Shape
    parameters: Tensor  # R × P, as the layout says
    gradients: Tensor  # R × P, of the last step
    first: Tensor  # R × P: momentum (SGD) or the mean of gradients (Adam)
    second: Tensor  # R × P: the mean of squared gradients (Adam); R × 0 for SGD
    best: Tensor  # R × P: the parameters of each run's best epoch so far
    settings: Tensor  # R × 7, columns as `Setting`; float64, on the CPU: 1 - β must not be rounded to 0
    activations: Tensor  # R, int64: index into ACTIVATIONS; in ascending order
    thresholds: Tensor  # R, int64: of dropout, out of 65536
    widths: Tensor  # R × (layers + 1), int64: without padding
    seeds: Tensor  # R, int64
    rows: dict[SplitName, Tensor]  # R × N, int64: which rows of `images`
    images: Tensor  # M × D, floats: every dataset and scaling that a run of the stack uses
    labels: Tensor  # M, int64

    @classmethod
    def build(cls, members: Sequence[Member], device: torch.device, dtype: torch.dtype = torch.float32) -> Stack:
        """Fresh runs; the members must come ordered by activation.

        Raises:
            ValueError: They do not fit together.
        """
        shape = Shape.of(members[0])
        if any(Shape.of(member) != shape for member in members):
            raise ValueError("the runs of a stack must have the same shape")
        activations = [ACTIVATIONS.index(member.config.activation) for member in members]
        if activations != sorted(activations):
            raise ValueError("the runs of a stack must be ordered by activation")

        def integers(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        datasets = list({id(member.data): member.data for member in members}.values())
        offsets = dict(
            zip(map(id, datasets), accumulate([len(each.labels) for each in datasets], initial=0), strict=False)
        )
        parameters = torch.from_numpy(np.stack([_initial_row(shape.layout, member.config) for member in members]))
        parameters = parameters.to(dtype).to(device)
        return cls(
            shape,
            parameters,
            torch.zeros_like(parameters),
            torch.zeros_like(parameters),
            torch.zeros_like(parameters if shape.is_adam else parameters[:, :0]),
            parameters.clone(),
            torch.tensor([_settings(member.config) for member in members], dtype=torch.float64),
            integers(activations),
            integers([randomness.dropout_threshold(member.config.dropout) for member in members]),
            integers([widths(member.config.hidden_sizes) for member in members]),
            integers([member.config.seed for member in members]),
            {
                name: integers(np.stack([getattr(member.split, name) + offsets[id(member.data)] for member in members]))
                for name in ("train", "val", "test")
            },
            torch.cat([each.images for each in datasets]).to(device, dtype),
            torch.cat([each.labels for each in datasets]).to(device),
        )

    def select(self, slots: Sequence[int]) -> Stack:
        """A smaller stack of these runs alone, in this order."""
        chosen = list(slots)
        per_run = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if field.name not in ("shape", "rows", "images", "labels")
        }
        rows: dict[SplitName, Tensor] = {name: indices[chosen] for name, indices in self.rows.items()}
        return replace(self, **per_run, rows=rows)

    @property
    def size(self) -> int:
        return len(self.seeds)

    @cached_property
    def has_dropout(self) -> bool:
        return bool((self.thresholds > 0).any())


class Engine(Protocol):
    """Computes on a stack's tensors, in place. `slots` are always in ascending order."""

    name: str
    threads: int  # of a CPU

    @property
    def num_done(self) -> int:
        """Steps and evaluations so far, read by another thread: it grows as long as something is computed."""

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        """An epoch of optimizer steps; returns what was seen on the way, dropout on."""

    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        """Dropout off, losses clipped."""

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Euclidean norms of the last step's gradients and of the parameters: slots × layers each."""

    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        """What a run answers with these parameters (P), before softmax: N × C."""


def clip_bounds(dtype: torch.dtype) -> tuple[float, float]:
    """Between which a sample's loss lies when its probability is clipped as `sklearn.metrics.log_loss` clips it."""
    epsilon = torch.finfo(dtype).eps
    return -math.log1p(-epsilon), -math.log(epsilon)


def _initial_row(layout: Layout, config: MlpConfig) -> npt.NDArray[np.float64]:
    layers: dict[str, npt.NDArray[np.floating]] = {}
    sizes = widths(config.hidden_sizes)
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        weights, biases = randomness.linear_layer(config.seed, number, inputs, outputs)
        layers |= {f"weights{number}": weights, f"biases{number}": biases}
    row = np.empty(layout.num_parameters)
    write_layers(layout, config.hidden_sizes, layers, row)
    return row


def _settings(config: MlpConfig) -> list[float]:
    optimizer = config.optimizer
    by_column = {
        Setting.LEARNING_RATE: optimizer.learning_rate,
        Setting.MOMENTUM: optimizer.momentum,
        Setting.WEIGHT_DECAY: optimizer.weight_decay,
        Setting.BETA1: optimizer.beta1,
        Setting.BETA2: optimizer.beta2,
        Setting.EPSILON: optimizer.epsilon,
        Setting.KEEP_SCALE: 1 / (1 - config.dropout),
    }
    return [by_column[column] for column in Setting]
