"""Whether the fused kernels compute on this GPU what torch computes on a CPU: asked once, before they train a run.

The kernels were tried on few kinds of GPU. On another one, or under another compiler, a check of a few milliseconds is
the difference between a slower engine and wrong models.
"""

from __future__ import annotations

import numpy as np
import torch

from workers.training.config import NUM_CLASSES, NUM_PIXELS, MlpConfig, OptimizerConfig
from workers.training.engines.cuda_driver import CudaUnavailable, Kernels
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.engines.torch_engine import BatchedEngine
from workers.training.stack import ACTIVATIONS, Decisions, Member, Stack
from workers.training.tensors import ImageTensors, SplitIndices

EPOCHS = 2
NUM_TRAIN, NUM_VAL = 50, 20
BATCH_SIZE = 40  # two chunks, and a last batch that is smaller
OPTIMIZERS = (OptimizerConfig("sgd", 0.05, momentum=0.9, nesterov=True), OptimizerConfig("adam", 0.001))
# Of parameters and losses; rounding alone makes differences of 1e-6 and of 1e-14
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}


def check_kernels(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    """Train a few networks, with dropout, by both engines, and compare what comes out.

    Raises:
        CudaUnavailable: It differs by more than rounding.
    """
    for optimizer in OPTIMIZERS:
        members = _make_members(optimizer)
        slots = range(len(members))
        stack, reference = Stack.build(members, device, dtype), Stack.build(members, torch.device("cpu"), torch.float64)
        dues = np.ones((len(members), EPOCHS), np.bool_)
        losses = FusedEngine(stack, kernels).train_epochs(slots, 1, dues, [Decisions()] * len(members)).val.losses
        engine = BatchedEngine(reference)
        for epoch in range(1, EPOCHS + 1):
            engine.train(slots, epoch)
        difference = (stack.parameters.double().cpu() - reference.parameters).abs().max().item()
        loss_difference = np.abs(losses[:, -1] - engine.evaluate(slots, "val").losses).max().item()
        if not (difference <= TOLERANCES[dtype] and loss_difference <= TOLERANCES[dtype]):  # NaN is not small
            raise CudaUnavailable(
                f"with {optimizer.kind}, its weights differ from torch's on the CPU by {difference:.0e}, "
                f"and its losses by {loss_difference:.0e}"
            )


def _make_members(optimizer: OptimizerConfig) -> list[Member]:
    """A run of each activation on random images."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.random((NUM_TRAIN + NUM_VAL, NUM_PIXELS), np.float32))
    data = ImageTensors(images, torch.from_numpy(random.integers(0, NUM_CLASSES, len(images))))
    train, val, test = np.split(np.arange(len(images), dtype=np.int32), [NUM_TRAIN, len(images)])
    split = SplitIndices(train, val, test)
    return [
        Member(MlpConfig(seed, (12, 20), activation, 0.25, optimizer, BATCH_SIZE, EPOCHS, 1), data, split)
        for seed, activation in enumerate(ACTIVATIONS)
    ]
