"""Whether the fused kernels compute on this GPU what torch computes on a CPU: asked once, before they train a run.

The kernels have run on one kind of GPU, an H100. Elsewhere a check of 0.1 s prevents wrong models.
"""

from __future__ import annotations

import numpy as np
import torch

from workers.training.config import NUM_CLASSES, NUM_PIXELS, MlpConfig, OptimizerConfig
from workers.training.engines.cuda_driver import CudaError, CudaUnavailable, Kernels
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.engines.cuda_plan import DoesNotFit
from workers.training.engines.torch_engine import BatchedEngine
from workers.training.stack import ACTIVATIONS, Decisions, Member, Stack
from workers.training.tensors import ImageTensors, SplitIndices

EPOCHS = 2
NUM_TRAIN, NUM_VAL = 50, 20
BATCH_SIZE = 40  # two chunks, and a last batch that is smaller
OPTIMIZERS = (OptimizerConfig("sgd", 0.05, momentum=0.9, nesterov=True), OptimizerConfig("adam", 0.001))
# Of parameters, losses and logits; rounding alone makes differences of 1e-6 and of 1e-14
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}


def check_kernels(kernels: Kernels, device: torch.device, dtype: torch.dtype) -> None:
    """Train and evaluate a few networks, with dropout, by both engines, and compare what comes out.

    Raises:
        CudaUnavailable: It differs by more than rounding, or the kernels cannot be launched.
    """
    for optimizer in OPTIMIZERS:
        try:
            differences = _compare(kernels, device, dtype, optimizer)
        except (CudaError, DoesNotFit) as error:
            raise CudaUnavailable(f"its check failed: {error}") from error
        for name, difference in differences.items():
            if not difference <= TOLERANCES[dtype]:  # NaN is not small
                raise CudaUnavailable(
                    f"with {optimizer.kind}, {name} differ from those of torch on the CPU by {difference:.0e}"
                )


def _compare(
    kernels: Kernels, device: torch.device, dtype: torch.dtype, optimizer: OptimizerConfig
) -> dict[str, float]:
    """The largest absolute differences between the fused engine and torch on the CPU in float64."""
    members = _make_members(optimizer)
    slots = range(len(members))
    stack, reference = Stack.build(members, device, dtype), Stack.build(members, torch.device("cpu"), torch.float64)
    fused, batched = FusedEngine(stack, kernels), BatchedEngine(reference)
    dues = np.ones((len(members), EPOCHS), np.bool_)
    losses = fused.train_epochs(slots, 1, dues, [Decisions()] * len(members)).val.losses[:, -1]
    for epoch in range(1, EPOCHS + 1):
        batched.train(slots, epoch)
    expected = batched.evaluate(slots, "val").losses
    logits = fused.logits(0, stack.parameters[0], "val") - batched.logits(0, reference.parameters[0], "val")
    return {
        "weights": (stack.parameters.double().cpu() - reference.parameters).abs().max().item(),
        "losses in training": float(np.abs(losses - expected).max()),
        "losses": float(np.abs(fused.evaluate(slots, "val").losses - expected).max()),
        "logits": float(np.abs(logits).max()),
    }


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
