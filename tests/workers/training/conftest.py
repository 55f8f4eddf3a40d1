"""The digits dataset, split as in the notebook, and stacks of networks to train on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from workers.training.bank import Banks
from workers.training.config import MlpConfig, OptimizerConfig
from workers.training.data import Labels, Pixels, Scaling, SplitData, load_dataset, split_indices, to_image_tensors
from workers.training.loop import StackTraining
from workers.training.result import MlpModel, Result
from workers.training.stack import Member
from workers.training.tensors import ImageTensors, SplitIndices

# On a machine with a GPU there may be torch alone: what tests the service's code too is left out there.
if find_spec("pydantic") is None:
    collect_ignore = ["engines/test_gpu_benchmark.py", "test_loop.py", "test_shifted.py"]
SEED = 20231110
CPU = torch.device("cpu")
BANKS = Banks()
CONFIG = MlpConfig(
    seed=3,
    hidden_sizes=(16, 12),
    activation="tanh",
    dropout=0.25,
    optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9),
    batch_size=64,
    epochs=8,
    evaluate_every=1,
)


@dataclass(frozen=True)
class Digits:
    """The dataset, and methods that make splits and stack members of it."""

    pixels: Pixels
    labels: Labels
    tensors: dict[str, ImageTensors]

    def split(self, seed: int = SEED, test_size: float = 0.0) -> SplitIndices:
        return split_indices(self.labels, val_size=0.3, test_size=test_size, seed=seed)

    def member(self, scaling: Scaling = "unit", split: SplitIndices | None = None, **changes: Any) -> Member:
        config = replace(CONFIG, **changes)
        bank = None if config.augmentation is None else self.bank(strength=config.augmentation.strength)
        return Member(config, self.tensors[scaling], split or self.split(), bank)

    def bank(self, copies: int = 16, strength: float = 1.0) -> torch.Tensor:
        """The same bank for all tests that ask for at most 16 copies of a strength."""
        return BANKS.get("digits", self.pixels, strength, copies, CPU)

    def data(self) -> SplitData:
        return SplitData.of(self.pixels, self.labels, self.split())


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Use one torch thread, as the trainer does: several would split large tensors depending on the stack's size."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Digits:
    pixels, labels = load_dataset("digits")
    scalings: tuple[Scaling, ...] = ("byte", "unit")
    return Digits(pixels, labels, {scaling: to_image_tensors(pixels, labels, scaling) for scaling in scalings})


@pytest.fixture(params=["compiled", "batched", "fused"])
def is_compiled(request: pytest.FixtureRequest) -> bool:
    """Run every test that uses this fixture on each engine; False for those with which a test should be short."""
    if request.param == "fused":
        request.getfixturevalue("fused")
    return bool(request.param == "compiled")


def finish(training: StackTraining) -> StackTraining:
    """Train until every run is finished or has failed; no run leaves the stack before that."""
    while not all(run.is_finished or run.failure for run in training.active):
        training.run_epoch()
    return training


def assert_same(one: Result, other: Result) -> None:
    """Check that two results have the same bits in every weight and every probability."""
    assert isinstance(one.model, MlpModel)
    assert isinstance(other.model, MlpModel)
    for mine, yours in zip(one.model.layers, other.model.layers, strict=True):
        for my_array, your_array in zip(mine, yours, strict=True):
            assert np.array_equal(my_array, your_array)
    assert one.chosen == other.chosen
    assert np.array_equal(one.val_probabilities, other.val_probabilities)
