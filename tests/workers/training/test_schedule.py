"""The learning rate's schedule is torch's own, in compiled code as well."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from workers.training.engines import kernels
from workers.training.schedule import rate_factors
from workers.training.stack import Setting


def _rates_of_torch(warmup: int, total: int) -> list[float]:
    """The rate at each step, from torch's schedulers, at a rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = CosineAnnealingLR(optimizer, total - warmup)
    schedule: torch.optim.lr_scheduler.LRScheduler = cosine
    if warmup > 1:
        optimizer.param_groups[0]["lr"] = 1.0
        rising = LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        schedule = SequentialLR(optimizer, [rising, CosineAnnealingLR(optimizer, total - warmup)], [warmup])
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize(("warmup", "total"), [(0, 7), (2, 3), (10, 64), (99, 300)])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_the_factors_are_those_of_torch_s_schedulers(warmup: int, total: int) -> None:
    steps = np.arange(total)
    factors = rate_factors(steps, np.array([warmup, 0.0]), np.array([total, 0.0]))
    assert factors.shape == (total, 2)
    assert factors[:, 0] == pytest.approx(_rates_of_torch(warmup, total), abs=1e-12)
    assert (factors[:, 1] == 1).all(), "constant"
    settings = np.zeros(len(Setting))
    settings[[Setting.WARMUP_STEPS, Setting.TOTAL_STEPS]] = warmup, total
    compiled = [kernels.rate_factor(settings, step) for step in range(total)]
    assert compiled == pytest.approx(factors[:, 0], abs=1e-15)
    assert factors[-1, 0] == pytest.approx(0.5 * (1 + math.cos(math.pi * (1 - 1 / (total - warmup)))), abs=1e-12)


def test_a_warm_up_of_one_step_begins_at_the_full_rate() -> None:
    factors = rate_factors(np.arange(3), np.array([1.0]), np.array([3.0]))[:, 0]
    assert factors == pytest.approx([1, 1, 0.5])
