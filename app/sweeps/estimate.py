"""Estimates a sweep's work; `app.runs.speed` estimates its duration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from app.run_config import RunConfig
from app.run_costs import estimated_bytes, max_stack_size, stack_key
from app.runs.speed import estimate, measure_speeds
from app.sweeps.schemas import SweepPlan


def plan(session: Session, trials: Sequence[RunConfig], *, num_points: int, max_stack_bytes: int) -> SweepPlan:
    """Sum up the stacks, steps, bytes and seconds of these trials."""
    return SweepPlan(
        num_points=num_points,
        num_trials=len(trials),
        num_stacks=count_stacks(trials, max_stack_bytes),
        num_steps=sum(config.num_steps or 0 for config in trials),
        estimated_bytes=sum(estimated_bytes(config) for config in trials),
        estimated_seconds=estimate(trials, measure_speeds(session)),
    )


def count_stacks(trials: Iterable[RunConfig], max_stack_bytes: int) -> int:
    """Count the stacks, if each is as large as `max_stack_bytes` allows."""
    num_runs = Counter(stack_key(config) for config in trials)
    sizes = {
        stack_key(config): max_stack_size(config, max_stack_bytes) for config in trials if stack_key(config) is not None
    }
    return sum(number if key is None else math.ceil(number / sizes[key]) for key, number in num_runs.items())
