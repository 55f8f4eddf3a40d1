"""The learning rate's schedule: linear warm-up, then a cosine down to 0.

I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", ICLR 2017, equation 5, without
restarts. It is torch's `SequentialLR` of `LinearLR` and `CosineAnnealingLR`, computed from the step alone, so that a
resumed run needs no state of it. `engines/kernels.py` computes the same in compiled code.

Shape letters: R runs in the stack, S steps of an epoch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def rate_factors(steps: npt.NDArray[np.int64], warmup_steps: Floats, total_steps: Floats) -> Floats:
    """What each run's learning rate is multiplied by at each step: S × R.

    Args:
        steps: The steps' numbers since the training began, from 0 (S).
        warmup_steps: Of each run (R).
        total_steps: Of each run's whole training (R); 0: its rate is constant.
    """
    step = steps[:, None].astype(np.float64)
    warm_up = (step + 1) / np.maximum(warmup_steps, 1)
    share = (step - warmup_steps) / np.maximum(total_steps - warmup_steps, 1)
    cosine = 0.5 * (1 + np.cos(np.pi * share))
    factors: Floats = np.where(total_steps == 0, 1.0, np.where(step < warmup_steps, warm_up, cosine))
    return factors
