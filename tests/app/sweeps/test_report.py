"""The statistics of a report, recomputed by other means, and its edge cases."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.queue.cross_validation import FoldScore, choose
from app.sweeps.report import TrialRow, find_effects, find_pareto_front, judge_noise, rank_points, rank_trials
from app.sweeps.schemas import PointReport


def row(number: int, point: int, val_accuracy: float | None, **columns: Any) -> TrialRow:
    values: dict[str, Any] = {
        "run_id": f"run{number}",
        "seed": number,
        "fold": None,
        "status": "failed" if val_accuracy is None else "succeeded",
        "error": None,
        "epoch": 10,
        "is_ended_early": False,
        "val_loss": None if val_accuracy is None else 1 - val_accuracy,
        "train_accuracy": 1.0,
        "best_epoch": 5,
        "plateau": (3, 0.1),
        "full_train_epoch": None,
        "num_parameters": 100,
    }
    return TrialRow(trial_number=number, point_number=point, val_accuracy=val_accuracy, **values | columns)


def points_of(accuracies: list[list[float | None]], **columns: list[Any]) -> list[PointReport]:
    """Make one point per list of accuracies, one repeat per accuracy; each column holds one value per point."""
    rows = [
        row(10 * point + repeat, point, accuracy, **{name: values[point] for name, values in columns.items()})
        for point, repeats in enumerate(accuracies)
        for repeat, accuracy in enumerate(repeats)
    ]
    values = [{"seed": point} for point in range(len(accuracies))]
    return rank_points(rank_trials(rows, values), values)


def test_points_are_ranked_by_mean_and_have_the_standard_error_of_it() -> None:
    worse, better = [0.8, 0.9, 0.85], [0.9, 0.95, 0.94]
    best, second = points_of([[*worse], [*better]])
    assert (best.point_number, best.rank, second.rank) == (1, 1, 2)
    assert best.mean_val_accuracy == pytest.approx(np.mean(better))
    assert best.standard_error == pytest.approx(np.std(better, ddof=1) / np.sqrt(3))
    assert (best.min_val_accuracy, best.max_val_accuracy) == (0.9, 0.95)


def test_what_has_failed_is_ranked_last_and_counts_for_nothing() -> None:
    points = points_of([[0.5, None], [None, None]])
    assert [(point.rank, point.num_succeeded, point.mean_val_accuracy) for point in points] == [
        (1, 1, 0.5),
        (None, 0, None),
    ]
    assert points[0].standard_error is None
    trials = rank_trials([row(0, 0, None), row(1, 0, 0.4), row(2, 0, 0.6)], [{}])
    assert [(trial.trial_number, trial.rank) for trial in trials] == [(2, 1), (1, 2), (0, None)]


def test_repeats_are_averaged_within_their_fold_first() -> None:
    rows = [row(number, 0, accuracy, fold=number // 2) for number, accuracy in enumerate((0.8, 0.9, 0.9, 1.0))]
    (point,) = rank_points(rank_trials(rows, [{}]), [{}])
    assert point.mean_val_accuracy == pytest.approx(0.9)
    assert point.standard_error == pytest.approx(np.std([0.85, 0.95], ddof=1) / np.sqrt(2))


def test_noise_is_the_standard_error_of_the_difference() -> None:
    accuracies: list[list[float | None]] = [[0.90, 0.92], [0.88, 0.90], [0.80, 0.82]]
    points = points_of(accuracies, num_parameters=[300, 200, 100], plateau=[(9, 1.0), (4, 1.0), (1, 1.0)])
    noise = judge_noise(points, with_folds=False, num_val=540)
    assert noise is not None
    # Each mean has a standard error of 0.01; the difference of 0.02 exceeds its standard error of √2 · 0.01.
    assert (noise.kind, noise.num_within_noise, noise.best_point) == ("repeats", 1, 0)
    points = points_of(
        [[0.90, 0.94], *accuracies[1:]], num_parameters=[300, 200, 100], plateau=[(9, 1), (4, 1), (1, 1)]
    )
    noise = judge_noise(points, with_folds=False, num_val=540)
    assert noise is not None
    assert [point.is_within_noise for point in points] == [True, False, False]


def test_a_single_trial_a_point_has_the_noise_of_a_share_of_images() -> None:
    points = points_of([[0.98], [0.975], [0.90]], num_parameters=[300, 200, 100], plateau=[(2, 1), (4, 1), (1, 1)])
    noise = judge_noise(points, with_folds=False, num_val=540)
    assert noise is not None
    assert noise.standard_error == pytest.approx(math.sqrt(0.98 * 0.02 / 540))
    assert (noise.kind, noise.num_within_noise) == ("images", 2)
    assert (noise.smallest_point, noise.quickest_point) == (1, 0)


def test_effects_are_means_by_value_and_eta_squared() -> None:
    values = [{"a": a, "b": b} for a in (1, 2) for b in ("x", "y", "z")]
    accuracies = [0.1, 0.2, 0.4, 0.6, 0.5, 0.9]
    rows = [row(number, number, accuracy) for number, accuracy in enumerate(accuracies)]
    effects = find_effects(rank_points(rank_trials(rows, values), values), ["a", "b"])
    table = np.array(accuracies).reshape(2, 3)
    total = ((table - table.mean()) ** 2).sum()
    by_a = 3 * ((table.mean(axis=1) - table.mean()) ** 2).sum() / total
    by_b = 2 * ((table.mean(axis=0) - table.mean()) ** 2).sum() / total
    assert [effect.path for effect in effects] == (["a", "b"] if by_a > by_b else ["b", "a"])
    shares = {effect.path: effect.share_of_variance for effect in effects}
    assert shares == pytest.approx({"a": by_a, "b": by_b})
    (effect,) = (each for each in effects if each.path == "a")
    assert [value.value for value in effect.values] == [1, 2]
    assert [value.mean_val_accuracy for value in effect.values] == pytest.approx(table.mean(axis=1))
    assert effect.values[1].best_val_accuracy == 0.9


def test_a_drawn_parameter_stands_in_quarters() -> None:
    values = [{"rate": 0.1 + number / 100} for number in range(20)]
    rows = [row(number, number, 0.5 + number / 100) for number in range(20)]
    (effect,) = find_effects(rank_points(rank_trials(rows, values), values), ["rate"])
    assert effect.share_of_variance is None
    assert [value.num_points for value in effect.values] == [5, 5, 5, 5]
    assert effect.values[0].value == pytest.approx([0.1, 0.14])
    assert effect.values[0].mean_val_accuracy == pytest.approx(fmean([0.5, 0.51, 0.52, 0.53, 0.54]))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12))
def test_the_pareto_front_holds_what_nothing_beats(qualities: list[tuple[int, int, int]]) -> None:
    points = points_of(
        [[accuracy / 10] for accuracy, _, _ in qualities],
        num_parameters=[size for _, size, _ in qualities],
        plateau=[(epoch, 1.0) for _, _, epoch in qualities],
    )
    expected = {
        number
        for number, (accuracy, size, epoch) in enumerate(qualities)
        if not any(
            a >= accuracy and s <= size and e <= epoch and (a, s, e) != (accuracy, size, epoch) for a, s, e in qualities
        )
    }
    assert set(find_pareto_front(points)) == expected


def scores(by_point: list[list[float]], sizes: list[int]) -> list[FoldScore]:
    return [
        FoldScore(point, fold, accuracy, sizes[point])
        for point, folds in enumerate(by_point)
        for fold, accuracy in enumerate(folds)
    ]


def test_the_choice_is_the_smallest_within_one_standard_error_of_the_best() -> None:
    folds = [[0.90, 0.92, 0.94], [0.91, 0.91, 0.91], [0.90, 0.90, 0.90]]  # the best mean is 0.92 ± 0.0115
    chosen = choose(scores(folds, [300, 200, 100]), num_folds=3, repeats=1)
    assert chosen is not None
    assert chosen.point_number == 1
    equal = choose(scores(folds, [300, 300, 100]), num_folds=3, repeats=1)
    assert equal is not None
    assert equal.point_number == 0, "of equally small ones the better"
    assert choose(scores([[0.9, 0.9]], [1]), num_folds=3, repeats=1) is None
