"""Snapshots in training: at which epochs, of what, and the same ones after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.training.conftest import CPU, Digits, finish
from workers.training.checkpoint import TrainingState
from workers.training.config import StoppingConfig, is_due, snapshot_epochs
from workers.training.loop import MlpTraining, StackTraining
from workers.training.result import MlpModel


@given(st.integers(0, 32), st.integers(1, 300), st.integers(1, 400))
def test_snapshots_are_of_evaluated_epochs_the_first_and_the_last_among_them(
    number: int, every: int, epochs: int
) -> None:
    chosen = snapshot_epochs(number, evaluate_every=every, epochs=epochs)
    due = [epoch for epoch in range(1, epochs + 1) if is_due(epoch, evaluate_every=every, epochs=epochs)]
    assert len(chosen) == min(number, len(due))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(due)
    if number:
        assert chosen[-1] == epochs
        assert chosen[0] == (1 if number > 1 else epochs)


def test_snapshots_are_dense_where_a_network_changes_most() -> None:
    assert snapshot_epochs(8, evaluate_every=1, epochs=100) == [1, 2, 4, 7, 14, 27, 52, 100]
    assert snapshot_epochs(5, evaluate_every=50, epochs=10_000) == [1, 150, 650, 2600, 10_000]


def as_bytes(states: list[TrainingState]) -> list[tuple[int, dict[str, bytes]]]:
    return [(state.epoch, {name: array.tobytes() for name, array in state.arrays.items()}) for state in states]


@pytest.mark.parametrize("epoch", [1, 5])
def test_a_resumed_run_keeps_the_snapshots_of_the_uninterrupted_one_bit_for_bit(
    digits: Digits, is_compiled: bool, epoch: int
) -> None:
    member, other = digits.member(epochs=9, snapshots=6), digits.member(epochs=9, seed=9)
    whole = finish(StackTraining([member], CPU, is_compiled=is_compiled)).active[0].take_snapshots()
    assert [state.epoch for state in whole] == [1, 2, 3, 4, 6, 9]

    first = StackTraining([other, member], CPU, is_compiled=is_compiled)
    for _ in range(epoch):
        first.run_epoch()
    checkpoints, kept = first.active[1].take_checkpoints(), first.active[1].take_snapshots()
    first.run_epoch()  # what it keeps after its last commit is lost
    second = StackTraining([member], CPU, is_compiled=is_compiled)
    second.active[0].restore(checkpoints["last"], checkpoints["best"])
    kept += finish(second).active[0].take_snapshots()
    assert as_bytes(kept) == as_bytes(whole)
    assert other.config.snapshots == 0


def test_a_snapshot_holds_the_weights_and_the_answers_of_a_shorter_run(digits: Digits) -> None:
    """A run of e epochs that keeps its last one ends with what a longer run's snapshot of epoch e holds."""
    (long,) = finish(StackTraining([digits.member(epochs=8, snapshots=4)], CPU)).active
    snapshots = long.take_snapshots()
    assert [state.epoch for state in snapshots] == [1, 2, 4, 8]
    for state in snapshots:
        (short,) = finish(StackTraining([digits.member(epochs=state.epoch, keep="last")], CPU)).active
        result = short.result()
        assert isinstance(result.model, MlpModel)
        for number, (weights, biases) in enumerate(result.model.layers, start=1):
            assert np.array_equal(state.arrays[f"weights{number}"], weights)
            assert np.array_equal(state.arrays[f"biases{number}"], biases)
        assert np.array_equal(state.arrays["val_digits"], result.val_probabilities.argmax(axis=1))
        assert np.array_equal(state.arrays["val_confidences"], result.val_probabilities.max(axis=1))
    assert long.take_snapshots() == []


def epochs_of(run: MlpTraining) -> list[int]:
    return [state.epoch for state in run.take_snapshots()]


def test_a_run_that_ends_before_its_last_epoch_keeps_its_end(digits: Digits) -> None:
    patient = digits.member(epochs=100, snapshots=6, early_stopping=StoppingConfig(1, min_delta=1.0))
    (stopped,) = finish(StackTraining([patient], CPU)).active
    assert epochs_of(stopped) == [1, 2]
    training = StackTraining([digits.member(epochs=100, snapshots=4), digits.member(epochs=100)], CPU)
    judged, bare = training.active
    for _ in range(3):
        training.run_epoch()
    for run in (judged, judged, bare):  # stopping twice is harmless
        run.stop()
    assert (epochs_of(judged), epochs_of(bare)) == ([1, 3], [])
