"""Training on a CUDA device, by both engines: it agrees with the CPU, and resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tests.workers.training.conftest import CPU, Digits, finish
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig
from workers.training.engines.choice import CudaEngine
from workers.training.loop import StackTraining
from workers.training.side_by_side import SideBySideTraining
from workers.training.stack import ACTIVATIONS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.mark.parametrize("cuda_engine", ["batched", "fused"])
@pytest.mark.parametrize("batch_size", [20, None])
@pytest.mark.parametrize(
    "optimizer", [OptimizerConfig("sgd", 0.01, momentum=0.9, nesterov=True), OptimizerConfig("adam", 0.001)]
)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("augmentation", [None, AugmentationConfig(7, 1.0)])
def test_cpu_and_cuda_agree(
    digits: Digits,
    cuda_engine: CudaEngine,
    batch_size: int | None,
    optimizer: OptimizerConfig,
    dropout: float,
    augmentation: AugmentationConfig | None,
) -> None:
    """Compare in float64, over 20 epochs without dropout, and with it over one epoch, which drops the same units."""
    epochs = 1 if dropout else 20
    members = [
        digits.member(
            hidden_sizes=(12, 24),
            activation=activation,
            dropout=dropout,
            optimizer=optimizer,
            batch_size=batch_size,
            epochs=epochs,
            schedule=None if augmentation is None else CosineConfig(3 if epochs == 20 else 0),
            augmentation=augmentation,
        )
        for activation in ACTIVATIONS
    ]
    trainings = [
        finish(StackTraining(members, device, dtype=torch.float64, cuda_engine=cuda_engine))
        for device in (CPU, torch.device("cuda"))
    ]
    assert trainings[1].engine.name.startswith("fused" if cuda_engine == "fused" else "torch")
    stacks = [training.stack for training in trainings]
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters.cpu(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("cuda_engine", ["batched", "fused"])
def test_a_run_resumes_on_the_device(digits: Digits, cuda_engine: CudaEngine) -> None:
    """The fused engine has the same bits, in stretches too; the batched one may round differently in another stack."""
    device = torch.device("cuda")
    member = digits.member(epochs=6, schedule=CosineConfig(30), augmentation=AugmentationConfig(9, 1.0))
    (whole,) = finish(StackTraining([member], device, cuda_engine=cuda_engine)).active
    first = StackTraining([member], device, cuda_engine=cuda_engine)
    for _ in range(3):
        first.run_epoch()
    kept = first.active[0].take_checkpoints()
    second = StackTraining([member], device, cuda_engine=cuda_engine)
    (resumed,) = second.active
    resumed.restore(kept["last"], kept["best"])
    while not resumed.is_finished:
        second.run_epochs(2)
    for name, array in resumed.take_checkpoints()["last"].arrays.items():
        expected = torch.from_numpy(whole.take_checkpoints()["last"].arrays[name].copy())
        rtol, atol = (0.0, 0.0) if cuda_engine == "fused" else (1e-4, 1e-5)
        torch.testing.assert_close(torch.from_numpy(array.copy()), expected, rtol=rtol, atol=atol)


def test_stacks_side_by_side_have_the_bits_of_each_alone(digits: Digits) -> None:
    """So have their checkpoints, which are copied between a launch and the next, queued one."""
    device = torch.device("cuda")
    shapes: list[tuple[int, ...]] = [(12, 12), (24,), (52, 52)]
    stacks = [[digits.member(hidden_sizes=each, activation=name, epochs=40) for name in ACTIVATIONS] for each in shapes]
    alone = [StackTraining(members, device, cuda_engine="fused") for members in stacks]
    expected: list[dict[tuple[int, str], Mapping[str, Any]]] = [{} for _ in stacks]
    for training, states in zip(alone, expected, strict=True):
        for epoch in range(1, 41):
            training.run_epochs(1)
            for run in training.active:
                states[epoch, run.config.activation] = run.take_checkpoints()["last"].arrays
    trainings = [StackTraining(members, device, cuda_engine="fused") for members in stacks]
    together, num_ahead = SideBySideTraining(trainings), 0
    while any(training.active for training in trainings):
        for _, train in together.advance():
            train()
        num_ahead += len(together._series[0]._under_way)
        for training, states in zip(trainings, expected, strict=True):
            for run in list(training.active):
                for name, array in run.take_checkpoints()["last"].arrays.items():
                    assert (array == states[run.epoch, run.config.activation][name]).all()
                if run.is_finished:
                    run.leave()
    assert num_ahead > 0
