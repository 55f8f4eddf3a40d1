"""Estimates how long runs will train, from the speed of earlier runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from pydantic import ValidationError
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.run_config import RunConfig
from app.run_costs import stack_key
from app.tables import Run, RunStatus

NUM_EARLIER_RUNS = 500  # the newest ones are measured
NUM_EARLIER_ALONE = 50  # of those that were trained alone
UNSTACKED = "alone"
_TRAINED = ("mlp", "random_forest")  # kinds of models whose time grows with their epochs


@dataclass(frozen=True)
class Speed:
    """The measured speed of earlier stacks with the same stack key."""

    seconds_per_epoch: float  # of one run, trained in such a stack
    seconds_per_work: float  # per unit of `_epoch_work`


def measure_speeds(session: Session, *, only_alone: bool = False) -> dict[str, Speed]:
    """Measure the median speed for each stack key, from the newest runs that have succeeded.

    Args:
        session: Reads the runs.
        only_alone: Whether to measure only runs that had no other run in their stack.
    """
    query = select(Run.config, Run.stack_id, Run.epoch, Run.training_seconds)
    query = query.where(Run.model_kind.in_(_TRAINED), Run.status == RunStatus.SUCCEEDED, Run.training_seconds > 0)
    stacks = defaultdict(list)
    if only_alone:
        query = query.where(or_(Run.stack_size == 1, Run.stack_size.is_(None)))
    number = NUM_EARLIER_ALONE if only_alone else NUM_EARLIER_RUNS
    for row in session.execute(query.order_by(Run.id.desc()).limit(number)):
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
            measured[stack_key(config) or UNSTACKED].append((seconds, seconds / _epoch_work(config)))
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
        speed = speeds.get(stack_key(config) or UNSTACKED)
        per_epoch = usual * _epoch_work(config) if speed is None else speed.seconds_per_epoch
        seconds += per_epoch * config.epochs
    return seconds


def estimate_alone(session: Session, config: RunConfig) -> float | None:
    """Estimate the seconds that one run trains without others; None for an ensemble and before any has succeeded."""
    if config.model.kind not in _TRAINED:
        return None
    return estimate([config], measure_speeds(session, only_alone=True))


def _epoch_work(config: RunConfig) -> float:
    """Return an epoch's multiply-adds plus a fixed cost per step; a forest's epoch is one tree."""
    if config.num_steps is None or config.num_parameters is None:
        return 1e6
    return config.num_parameters * config.num_train_samples * 3 + config.num_steps / config.epochs * 20_000
