"""Successive halving: at which epochs the rungs are, and which trials end there."""

from __future__ import annotations

import pytest

from app.sweeps.halving import Standing, find_hopeless, rung_epochs


@pytest.mark.parametrize(
    ("epochs", "rungs", "reduction", "expected"),
    [
        (90, 3, 3, (3, 10, 30)),
        (100, 2, 2, (25, 50)),
        (8, 8, 2, (1, 2, 4)),
        (1, 3, 3, ()),
        (2, 3, 3, ()),
    ],
)
def test_rungs(epochs: int, rungs: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert rung_epochs(epochs, rungs=rungs, reduction=reduction) == expected


def test_one_in_so_many_goes_on() -> None:
    standings = {str(number): Standing(number / 10, 0) for number in range(9)}
    assert find_hopeless(standings, [], 3) == {"0", "1", "2", "3", "4", "5"}


def test_trials_that_were_there_before_count() -> None:
    before = [Standing(accuracy, 0) for accuracy in (0.9, 0.8, 0.7, 0.6)]
    assert find_hopeless({"a": Standing(0.5, 0), "b": Standing(0.95, 0)}, before, 3) == {"a"}
    assert find_hopeless({"a": Standing(0.5, 0)}, before[:1], 3) == {"a"}


def test_the_first_one_goes_on() -> None:
    assert find_hopeless({"a": Standing(0.1, -2)}, [], 4) == set()


def test_of_equal_accuracies_the_lower_loss_counts() -> None:
    standings = {"a": Standing(0.5, -0.2), "b": Standing(0.5, -0.1), "c": Standing(0.4, 0)}
    assert find_hopeless(standings, [], 3) == {"a", "c"}
