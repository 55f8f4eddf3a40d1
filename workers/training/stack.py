"""A stack: R runs' parameters, optimizer state and settings, side by side on one device.

The runs of a stack must have the same shape: padded hidden widths, batch size, optimizer kind, sizes of the splits.
Everything else may differ. An engine computes the epochs: `engines/numba_engine.py` on a CPU, `engines/torch_engine.py`
elsewhere.

Shape letters: R runs in the stack, L layers, P parameters of a network, padding included; N samples of a split, M
images of all datasets together, D = 64 pixels, C = 10 classes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workers.training import randomness
from workers.training.config import NUM_PIXELS, MlpConfig
from workers.training.layout import Layout, widths, write_layers
from workers.training.tensors import ImageTensors, SplitIndices, SplitName

ACTIVATIONS: tuple[Literal["sigmoid", "tanh", "relu"], ...] = ("sigmoid", "tanh", "relu")
NUMBERS_AT_ONCE = 2**17  # initial parameters that are drawn at once: they stay in the cache

Floats = npt.NDArray[np.float64]


class Member(NamedTuple):
    """One run of a stack: what is trained, and on which data."""

    config: MlpConfig
    data: ImageTensors
    split: SplitIndices
    bank: Tensor | None = None  # K × images of the dataset × D, uint8; needed with augmentation, see `bank.Banks`


class Setting(IntEnum):
    """Columns of `Stack.settings`: the numbers of a configuration that may differ from run to run."""

    LEARNING_RATE = 0
    MOMENTUM = 1
    WEIGHT_DECAY = 2
    BETA1 = 3
    BETA2 = 4
    EPSILON = 5
    KEEP_SCALE = 6  # 1 / (1 - dropout rate): the factor of units that dropout keeps
    WARMUP_STEPS = 7
    TOTAL_STEPS = 8  # of the whole training; 0: the learning rate is constant
    NESTEROV = 9  # 1 or 0


class Tally(NamedTuple):
    """Sums over a split for each run: its cross-entropies in nats, and its right predictions."""

    losses: npt.NDArray[np.float64]
    corrects: npt.NDArray[np.int64]

    def means(self, size: int) -> list[tuple[float, float]]:
        """Each run's mean loss and accuracy over a split of `size` samples."""
        return list(zip((self.losses / size).tolist(), (self.corrects / size).tolist(), strict=True))


@dataclass(frozen=True)
class Shape:
    """What the runs of a stack share."""

    layout: Layout
    batch_size: int  # at most the size of the train split, which makes a full batch
    is_adam: bool
    split_sizes: tuple[int, int, int]  # train, val, test
    strength: float | None  # of the augmentation; None: there is none

    @classmethod
    def of(cls, member: Member) -> Shape:
        config, split = member.config, member.split
        batch_size = min(config.batch_size or len(split.train), len(split.train))
        sizes = (len(split.train), len(split.val), len(split.test))
        strength = None if config.augmentation is None else config.augmentation.strength
        return cls(Layout.of(config.hidden_sizes), batch_size, config.optimizer.kind == "adam", sizes, strength)

    @property
    def num_train(self) -> int:
        return self.split_sizes[0]

    @property
    def num_steps(self) -> int:
        """The steps of an epoch; the last batch may be smaller than the others."""
        return math.ceil(self.num_train / self.batch_size)


@dataclass
class Stack:
    """The tensors of R runs; row r of each belongs to the run in slot r."""

    shape: Shape
    parameters: Tensor  # R × P, see `layout`
    gradients: Tensor  # R × P, of the last step, without weight decay
    first: Tensor  # R × P: momentum (SGD) or the mean of gradients (Adam)
    second: Tensor  # R × P: the mean of squared gradients (Adam); R × 0 for SGD
    best: Tensor  # R × P: the parameters of each run's best epoch so far
    settings: Tensor  # R × 10, columns as `Setting`; float64, on the CPU: float32 would round 1 - β to 0
    activations: Tensor  # R, int64: index into ACTIVATIONS; in ascending order
    thresholds: Tensor  # R, int64: dropout's rate × 65536, see `randomness.dropout_threshold`
    widths: Tensor  # R × (L + 1), int64: pixels, hidden widths, classes, without padding
    seeds: Tensor  # R, int64
    rows: dict[SplitName, Tensor]  # R × N each, int64: the samples of a run's split, as rows of `images`
    images: Tensor  # M × D, floats: every dataset and scaling that a run of the stack uses, once each
    labels: Tensor  # M, int64
    copies: Tensor  # R, int64: how many copies of an image a run draws from; 0 without augmentation
    first_rows: Tensor  # R, int64: the row of `images` that is the first image of a run's dataset
    scales: Tensor  # R, float32: what the pixels of a run's copies are multiplied by
    bank: Tensor  # K × images of the dataset × D, uint8; empty without augmentation

    @classmethod
    def build(cls, members: Sequence[Member], device: torch.device, dtype: torch.dtype = torch.float32) -> Stack:
        """Make a stack of untrained runs; the members must be ordered by activation.

        The order makes the runs of one activation neighbours, so the torch engine computes each activation for all of
        them at once.

        Raises:
            ValueError: The members differ in shape or bank, their bank is too small, or they are not ordered.
        """
        shape = Shape.of(members[0])
        if any(Shape.of(member) != shape for member in members):
            raise ValueError("the runs of a stack must have the same shape")
        activations = [ACTIVATIONS.index(member.config.activation) for member in members]
        if activations != sorted(activations):
            raise ValueError("the runs of a stack must be ordered by activation")

        def integers(values: object) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        # Members that share an `ImageTensors` share its images: each is stored once, one after the other, and
        # offsets[id] is its first row in `images`.
        datasets = list({id(member.data): member.data for member in members}.values())
        offsets = dict(
            zip(map(id, datasets), accumulate([len(each.labels) for each in datasets], initial=0), strict=False)
        )
        parameters = _initial_parameters(shape.layout, [member.config for member in members], dtype).to(device)
        splits: tuple[SplitName, ...] = ("train", "val", "test")
        return cls(
            shape=shape,
            parameters=parameters,
            gradients=torch.zeros_like(parameters),
            first=torch.zeros_like(parameters),
            second=torch.zeros_like(parameters if shape.is_adam else parameters[:, :0]),
            best=parameters.clone(),
            settings=torch.tensor([_settings(member.config, shape) for member in members], dtype=torch.float64),
            activations=integers(activations),
            thresholds=integers([randomness.dropout_threshold(member.config.dropout) for member in members]),
            widths=integers([widths(member.config.hidden_sizes) for member in members]),
            seeds=integers([member.config.seed for member in members]),
            rows={
                name: integers(np.stack([getattr(member.split, name) + offsets[id(member.data)] for member in members]))
                for name in splits
            },
            images=torch.cat([each.images for each in datasets]).to(device, dtype),
            labels=torch.cat([each.labels for each in datasets]).to(device),
            copies=integers([_num_copies(member.config) for member in members]),
            first_rows=integers([offsets[id(member.data)] for member in members]),
            scales=torch.tensor([member.data.scale for member in members], dtype=torch.float32, device=device),
            bank=_common_bank(members).to(device),
        )

    def select(self, slots: Sequence[int]) -> Stack:
        """A smaller stack of these runs alone, in this order. Images, labels and bank are shared, not copied."""
        chosen = list(slots)
        per_run = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if field.name not in ("shape", "rows", "images", "labels", "bank")
        }
        rows: dict[SplitName, Tensor] = {name: indices[chosen] for name, indices in self.rows.items()}
        return replace(self, **per_run, rows=rows)

    @property
    def size(self) -> int:
        return len(self.seeds)

    @cached_property
    def has_dropout(self) -> bool:
        return bool((self.thresholds > 0).any())

    @cached_property
    def has_schedule(self) -> bool:
        return bool((self.settings[:, Setting.TOTAL_STEPS] > 0).any())

    @cached_property
    def has_nesterov(self) -> bool:
        return bool((self.settings[:, Setting.NESTEROV] > 0).any())


class Engine(Protocol):
    """Computes on a stack's tensors, in place. `slots` are in ascending order.

    A run's numbers on a CPU do not depend by a bit on which other runs are in the stack or in `slots`.
    """

    name: str
    threads: int  # of the CPU, that compute

    @property
    def num_done(self) -> int:
        """Steps and evaluations so far, for another thread to read; a replayed CUDA graph counts none of its steps."""

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        """Train an epoch; returns the tally of its forward passes, with dropout and with the weights of each step."""

    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        """Evaluate on a split, with dropout off and each sample's loss clipped by `clip_bounds`."""

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Euclidean norms of the last step's gradients and of the parameters: slots × L each."""

    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        """Forward pass of a run on a split with these parameters (P), dropout off: logits, N × C."""


class Decisions(NamedTuple):
    """What the loop has decided of a run so far, so that an engine can go on as the loop would.

    Accuracies and losses are the means of `evaluation.Best`, as Python computes them.
    """

    best_accuracy: float = -1.0  # val accuracy of the best epoch so far; below 0: there is none
    best_loss: float = 0.0  # its val loss
    reference_epoch: int = 0  # see `evaluation.EarlyStopping`; 0: there is none
    reference_accuracy: float = 0.0
    reference_loss: float = 0.0
    patience: int = 0  # 0: no early stopping
    min_delta: float = 0.0


class Stretch(NamedTuple):
    """What a stretch of K epochs gave the S runs in `slots`.

    Rows of epochs that a run did not train, or that were not due, are unspecified.
    """

    seen: Tally  # S × K each: losses and right predictions of the training passes
    train: Tally  # S × K each: evaluated after the epoch
    val: Tally  # S × K each
    gradient_norms: Floats  # S × K × L
    weight_norms: Floats  # S × K × L
    ends: npt.NDArray[np.int64]  # S: the last epoch that each run trained: the stretch's last, or where it ended


def clip_bounds(dtype: torch.dtype) -> tuple[float, float]:
    """The least and greatest loss of a sample, -log(1 - ε) and -log(ε), where ε is the dtype's machine epsilon.

    `sklearn.metrics.log_loss` clips probabilities to [ε, 1 - ε]
    (https://scikit-learn.org/stable/modules/generated/sklearn.metrics.log_loss.html).
    """
    epsilon = torch.finfo(dtype).eps
    return -math.log1p(-epsilon), -math.log(epsilon)


def _initial_parameters(layout: Layout, configs: Sequence[MlpConfig], dtype: torch.dtype) -> Tensor:
    """The runs' initial parameters (R × P); a run's depend on its seed and unpadded widths only."""
    parameters = torch.empty(len(configs), layout.num_parameters, dtype=dtype)
    rows = parameters.numpy()  # the same memory
    by_sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for slot, config in enumerate(configs):
        by_sizes[config.hidden_sizes].append(slot)
    at_once = max(1, NUMBERS_AT_ONCE // layout.num_parameters)
    for hidden_sizes, slots in by_sizes.items():
        for start in range(0, len(slots), at_once):
            part = slots[start : start + at_once]
            seeds = np.array([configs[slot].seed for slot in part], np.int64)
            rows[part] = _initial_rows(layout, hidden_sizes, seeds)  # drawn in float64, and rounded here
    return parameters


def _initial_rows(layout: Layout, hidden_sizes: Sequence[int], seeds: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The initial parameters of runs of the same widths, by their seeds (R): R × P."""
    layers: dict[str, npt.NDArray[np.floating]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths(hidden_sizes)), start=1):
        weights, biases = randomness.linear_layers(seeds, number, inputs, outputs)
        layers |= {f"weights{number}": weights, f"biases{number}": biases}
    rows = np.empty((len(seeds), layout.num_parameters))
    write_layers(layout, hidden_sizes, layers, rows)
    return rows


def _num_copies(config: MlpConfig) -> int:
    return 0 if config.augmentation is None else config.augmentation.copies


def _common_bank(members: Sequence[Member]) -> Tensor:
    """The bank of all members; an empty one if they have no augmentation.

    Raises:
        ValueError: It is missing, not the same one, or holds fewer copies than a run draws from.
    """
    needed = max(_num_copies(member.config) for member in members)
    if needed == 0:
        return torch.empty(0, 0, NUM_PIXELS, dtype=torch.uint8)
    bank = members[0].bank
    if bank is None or any(member.bank is not bank for member in members) or len(bank) < needed:
        raise ValueError(f"the runs of a stack with augmentation need one bank, of {needed} copies or more")
    return bank


def _settings(config: MlpConfig, shape: Shape) -> list[float]:
    """A run's row of `Stack.settings`."""
    optimizer, schedule = config.optimizer, config.schedule
    by_column = {
        Setting.LEARNING_RATE: optimizer.learning_rate,
        Setting.MOMENTUM: optimizer.momentum,
        Setting.WEIGHT_DECAY: optimizer.weight_decay,
        Setting.BETA1: optimizer.beta1,
        Setting.BETA2: optimizer.beta2,
        Setting.EPSILON: optimizer.epsilon,
        Setting.KEEP_SCALE: 1 / (1 - config.dropout),
        Setting.WARMUP_STEPS: 0 if schedule is None else schedule.warmup_steps,
        Setting.TOTAL_STEPS: 0 if schedule is None else config.epochs * shape.num_steps,
        Setting.NESTEROV: float(optimizer.nesterov),
    }
    return [by_column[column] for column in Setting]
