"""Several epochs in one call of the engine: the runs' metrics, weights and ends are those of epoch by epoch.

The engine is the CUDA engine, emulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.training.conftest import CPU, Digits, assert_same
from tests.workers.training.engines.test_cuda_engine import few
from workers.training.checkpoint import TrainingState
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig, StoppingConfig
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.stack import Member
from workers.training.stretches import CALL_SECONDS, Pace, find_dues, find_length

pytestmark = pytest.mark.usefixtures("fused")

Advance = Callable[[StackTraining], list[tuple[MlpTraining, Metrics]]]
ADAM = OptimizerConfig("adam", 0.01)


def by_epoch(training: StackTraining) -> list[tuple[MlpTraining, Metrics]]:
    return training.run_epoch()


def by_stretch(limit: int) -> Advance:
    return lambda training: training.run_epochs(limit)


class Finished:
    """A run's end, and everything that it gave on the way."""

    def __init__(self, run: MlpTraining, rows: list[Metrics], snapshots: list[TrainingState]) -> None:
        self.epoch, self.best, self.failure = run.epoch, run.best, run.failure
        self.rows = [row._replace(seconds=0.0) for row in rows]
        self.snapshots = as_bytes(snapshots)
        self.checkpoints = as_bytes([run.take_checkpoints()["last"]])
        self.result = None if run.failure else run.result()


def as_bytes(states: Sequence[TrainingState]) -> list[tuple[int, dict[str, bytes]]]:
    return [(state.epoch, {name: array.tobytes() for name, array in state.arrays.items()}) for state in states]


def train(
    members: Sequence[Member], advance: Advance, judge: Callable[[MlpTraining, Metrics], bool] | None = None
) -> tuple[list[Finished], int]:
    """Train to the end as the trainer does, and count the calls; `judge` ends a run at an evaluated epoch."""
    training = StackTraining(members, CPU)
    runs = list(training.active)
    rows: dict[MlpTraining, list[Metrics]] = {run: [] for run in runs}
    ended: dict[MlpTraining, Finished] = {}
    num_calls = 0
    while training.active:
        num_calls += 1
        for run, metrics in advance(training):
            rows[run].append(metrics)
            if judge is not None and judge(run, metrics):
                run.stop()
        for run in [run for run in training.active if run.is_finished or run.failure]:
            ended[run] = Finished(run, rows[run], run.take_snapshots())
            run.leave()
    return [ended[run] for run in runs], num_calls


def assert_equal(mine: Sequence[Finished], theirs: Sequence[Finished]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        assert (one.epoch, one.best, one.failure) == (other.epoch, other.best, other.failure)
        assert one.rows == other.rows
        assert one.snapshots == other.snapshots
        assert one.checkpoints == other.checkpoints
        if one.result is not None and other.result is not None:
            assert_same(one.result, other.result)


def members_of(digits: Digits, variants: Sequence[dict[str, Any]], **shared: Any) -> list[Member]:
    shared = {"split": few(digits), "epochs": 20, "hidden_sizes": (16, 12), "batch_size": 50, **shared}
    return [digits.member(seed=seed, **{**shared, **variant}) for seed, variant in enumerate(variants)]


@pytest.mark.parametrize("limit", [3, 100])
def test_early_stopping_ends_a_run_at_the_same_epoch_with_the_same_weights(digits: Digits, limit: int) -> None:
    """Patience with and without a least improvement, different intervals of evaluation, both kinds of weights."""
    members = members_of(
        digits,
        [
            {"early_stopping": StoppingConfig(2, 0.02), "keep": "last"},
            {"early_stopping": StoppingConfig(4, 0.05), "evaluate_every": 3, "activation": "relu"},
            {"early_stopping": StoppingConfig(1), "keep": "best", "activation": "relu"},
            {"early_stopping": StoppingConfig(3), "optimizer": replace(ADAM, learning_rate=0.05)},
            {"epochs": 13, "evaluate_every": 4, "keep": "last"},
        ],
        optimizer=ADAM,
    )
    expected, num_calls = train(members, by_epoch)
    found, num_stretches = train(members, by_stretch(limit))
    assert_equal(found, expected)
    ends = [each.epoch for each in expected]
    assert len({*ends}) > 3, ends
    assert min(ends) < 10, ends
    assert num_stretches < num_calls


@pytest.mark.parametrize(("evaluate_every", "batch_size"), [(1, 50), (50, 50), (1, None), (2, None)])
def test_a_run_that_diverges_ends_with_the_weights_of_that_epoch(
    digits: Digits, evaluate_every: int, batch_size: int | None
) -> None:
    """With one step an epoch, the first epoch's loss is finite, and its weights give none that is."""
    wild = [{"activation": "relu", "optimizer": OptimizerConfig("sgd", rate, momentum=0.9)} for rate in (1e30, 30.0)]
    calm = {"activation": "relu", "optimizer": OptimizerConfig("sgd", 0.05, momentum=0.9)}
    shared: dict[str, Any] = {"evaluate_every": evaluate_every, "batch_size": batch_size, "dropout": 0.0}
    members = members_of(digits, [*wild, calm], **shared)
    expected, _ = train(members, by_epoch)
    found, _ = train(members, by_stretch(100))
    assert_equal(found[2:], expected[2:])
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert (one.epoch, one.failure, len(one.rows)) == (other.epoch, other.failure, len(other.rows))
        assert one.checkpoints[0][0] == other.checkpoints[0][0]
    assert found[0].failure is not None
    assert found[0].failure.endswith("at epoch 1; a lower learning rate may help.")
    assert found[2].failure is None


def test_the_caller_acts_at_rungs(digits: Digits) -> None:
    """Runs that end at a rung, as in successive halving, while the others go on in a smaller stack."""
    members = members_of(digits, [{"activation": each} for each in ("tanh", "relu", "tanh", "relu")], rungs=(3, 9))
    ends = {0: 3, 3: 3, 1: 9}

    def judge(run: MlpTraining, metrics: Metrics) -> bool:
        return ends.get(run.config.seed) == metrics.epoch

    expected, _ = train(members, by_epoch, judge)
    found, num_stretches = train(members, by_stretch(100), judge)
    assert_equal(found, expected)
    assert [each.epoch for each in found] == [3, 9, 20, 3]
    assert num_stretches == 3


def test_rungs_are_evaluated_whatever_the_interval(digits: Digits) -> None:
    members = members_of(digits, [{}, {"evaluate_every": 4}], rungs=(3, 10), evaluate_every=7)
    found, _ = train(members, by_stretch(100))
    assert [row.epoch for row in found[0].rows] == [1, 3, 7, 10, 14, 20]
    assert [row.epoch for row in found[1].rows] == [1, 3, 4, 8, 10, 12, 16, 20]
    assert_equal(found, train(members, by_epoch)[0])


def test_snapshots_are_those_of_epoch_by_epoch(digits: Digits) -> None:
    stopping = StoppingConfig(2, 0.02)
    members = members_of(digits, [{"snapshots": 5}, {"snapshots": 3, "early_stopping": stopping}, {}], optimizer=ADAM)
    expected, _ = train(members, by_epoch)
    found, num_stretches = train(members, by_stretch(100))
    assert_equal(found, expected)
    assert [epoch for epoch, _ in found[0].snapshots] == [1, 2, 4, 9, 20]
    assert found[1].snapshots[-1][0] == found[1].epoch < 20
    assert num_stretches < 10


@pytest.mark.parametrize("optimizer", [ADAM, OptimizerConfig("sgd", 0.05, momentum=0.9, nesterov=True)])
def test_a_run_resumes_in_the_middle_of_a_stretch(digits: Digits, optimizer: OptimizerConfig) -> None:
    """A run is interrupted after 5 epochs, and goes on in stretches that begin elsewhere, in another stack."""
    shared: dict[str, Any] = {"optimizer": optimizer, "augmentation": AugmentationConfig(9, 1.0)}
    stopping = StoppingConfig(6, 0.01)
    (member,) = members_of(digits, [{"schedule": CosineConfig(9), "early_stopping": stopping}], **shared)
    (other,) = members_of(digits, [{"activation": "relu"}], **shared)
    (expected,), _ = train([member], by_stretch(100))
    first = StackTraining([member, other], CPU)
    rows = [metrics for run, metrics in first.run_epochs(3) + first.run_epochs(2) if run is first.active[0]]
    kept = first.active[0].take_checkpoints()
    second = StackTraining([member], CPU)
    (run,) = second.active
    run.restore(kept["last"], kept["best"])
    while not run.is_finished:
        rows += [metrics for _, metrics in second.run_epochs(4)]
    assert_equal([Finished(run, rows, [])], [expected])


def test_time_is_counted_once_and_grows_by_epoch(digits: Digits) -> None:
    training = StackTraining(members_of(digits, [{}]), CPU)
    rows = [metrics for _, metrics in training.run_epochs(6)]
    seconds = [row.seconds for row in rows]
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert np.diff([0.0, *seconds]) == pytest.approx([seconds[0]] * 6)
    assert training.active[0].seconds == seconds[-1]


def test_runs_at_different_epochs_are_refused(digits: Digits) -> None:
    """One stopped early, and was not made to leave."""
    members = members_of(digits, [{"early_stopping": StoppingConfig(1, 0.5)}, {}])
    training = StackTraining(members, CPU)
    training.run_epochs(5)
    with pytest.raises(ValueError, match="must be at one epoch"):
        training.run_epochs(5)


def test_a_stretch_ends_where_the_caller_must_act(digits: Digits) -> None:
    members = members_of(digits, [{"epochs": 30, "rungs": (7, 25)}, {"epochs": 30, "snapshots": 3}])
    runs = StackTraining(members, CPU).active
    lengths: list[int] = []
    while sum(lengths) < 30:
        lengths.append(find_length(runs, sum(lengths), 10))
    assert lengths == [1, 4, 2, 10, 8, 5]  # ends at 1 (snapshot), 5 (snapshot), 7 (rung), 17, 25 (rung), 30
    assert find_dues(runs, 28, 3).tolist() == [[True] * 3] * 2


@given(st.floats(1e-5, 10), st.integers(1, 50))
def test_the_pace_settles_at_a_tenth_of_a_second(epoch_seconds: float, num_calls: int) -> None:
    pace = Pace()
    limits = []
    for _ in range(num_calls):
        limits.append(pace.limit)
        pace.follow(pace.limit, pace.limit * epoch_seconds)
    assert limits[0] == 1
    assert all(after <= 4 * before for before, after in pairwise(limits))
    if num_calls > math.log(1e5, 4):
        assert pace.limit == max(1, int(CALL_SECONDS * limits[-1] / (limits[-1] * epoch_seconds)))
