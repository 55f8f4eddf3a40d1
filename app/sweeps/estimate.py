"""Estimates a sweep's work, and its duration from the speed of earlier runs."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.run_config import RunConfig, max_stack_size
from app.sweeps.schemas import SweepPlan
from app.tables import Run, RunStatus

NUM_EARLIER_RUNS = 500  # the newest ones are measured
UNSTACKED = "alone"


@dataclass(frozen=True)
class Speed:
    """The measured speed of earlier stacks with the same stack key."""

    seconds_per_epoch: float  # of one run, trained in such a stack
    seconds_per_work: float  # per unit of `_epoch_work`


def plan(session: Session, trials: Sequence[RunConfig], *, num_points: int, max_stack_bytes: int) -> SweepPlan:
    """Sum up the stacks, steps, bytes and seconds of these trials."""
    return SweepPlan(
        num_points=num_points,
        num_trials=len(trials),
        num_stacks=count_stacks(trials, max_stack_bytes),
        num_steps=sum(config.num_steps or 0 for config in trials),
        estimated_bytes=sum(config.estimated_bytes for config in trials),
        estimated_seconds=estimate(trials, measure_speeds(session)),
    )


def count_stacks(trials: Iterable[RunConfig], max_stack_bytes: int) -> int:
    """Count a worker's claims if each stack is as large as `max_stack_bytes` allows."""
    num_runs = Counter(config.stack_key for config in trials)
    sizes = {
        config.stack_key: max_stack_size(config, max_stack_bytes) for config in trials if config.stack_key is not None
    }
    return sum(number if key is None else math.ceil(number / sizes[key]) for key, number in num_runs.items())


def measure_speeds(session: Session) -> dict[str, Speed]:
    """Measure the median speed for each stack key, from the newest runs that have succeeded."""
    query = select(Run.config, Run.stack_id, Run.epoch, Run.training_seconds)
    query = query.where(Run.status == RunStatus.SUCCEEDED, Run.training_seconds > 0)
    stacks = defaultdict(list)
    for row in session.execute(query.order_by(Run.id.desc()).limit(NUM_EARLIER_RUNS)):
        stacks[row.stack_id].append(row)
    measured = defaultdict(list)
    for rows in stacks.values():
        try:
            config = RunConfig.model_validate(rows[0].config)
        except ValidationError:  # the configuration is of another version
            continue
        epochs = sum(row.epoch for row in rows)
        if epochs:
            seconds = max(row.training_seconds for row in rows) / epochs  # the runs of a stack train at the same time
            measured[config.stack_key or UNSTACKED].append((seconds, seconds / _epoch_work(config)))
    return {
        key: Speed(median(each[0] for each in found), median(each[1] for each in found))
        for key, found in measured.items()
    }


def estimate(trials: Iterable[RunConfig], speeds: dict[str, Speed]) -> float | None:
    """Estimate the seconds of training, one stack after the other; None if no speed was measured.

    A run whose stack key was never measured is assumed to take the median time per unit of work of the others.
    """
    if not speeds:
        return None
    usual = median(speed.seconds_per_work for speed in speeds.values())
    seconds = 0.0
    for config in trials:
        speed = speeds.get(config.stack_key or UNSTACKED)
        per_epoch = usual * _epoch_work(config) if speed is None else speed.seconds_per_epoch
        seconds += per_epoch * config.epochs
    return seconds


def _epoch_work(config: RunConfig) -> float:
    """Return an epoch's multiply-adds plus a fixed cost per step; a forest's epoch is one tree."""
    if config.num_steps is None or config.num_parameters is None:
        return 1e6
    return config.num_parameters * config.num_train_samples * 3 + config.num_steps / config.epochs * 20_000
