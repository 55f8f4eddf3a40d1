"""Thresholds of verdicts, from arrays whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from workers.training.thresholds import FEWEST_SURE, Judged, bound_energy, choose_thresholds, find_sure


def test_as_many_are_sure_as_leave_the_accuracy() -> None:
    confidences = np.linspace(1, 0.5, 2000, dtype=np.float32)
    right = np.ones(2000, bool)
    right[[100, 400, 999, *range(1000, 2000, 9)]] = False  # of the first 1,000, 3 are wrong: .997 are right
    found = find_sure(confidences[::-1], right[::-1])
    assert found is not None
    assert found == confidences[999]
    assert right[confidences >= found].mean() == 0.997


def test_equal_confidences_are_sure_together_or_not_at_all() -> None:
    confidences = np.full(1000, 0.9, np.float32)
    confidences[:400] = 0.99
    right = np.ones(1000, bool)
    right[700:720] = False  # the first 700 could be sure, if the others of .9 were less confident
    assert find_sure(confidences, right) == np.float32(0.99)


@pytest.mark.parametrize("number", [FEWEST_SURE - 2, FEWEST_SURE])
def test_too_few_show_nothing(number: int) -> None:
    confidences = np.linspace(1, 0.5, 800, dtype=np.float32)
    right = np.zeros(800, bool)
    right[:number] = True
    assert (find_sure(confidences, right) is None) == (number < FEWEST_SURE)


def test_an_accuracy_that_cannot_be_reached_makes_none_sure() -> None:
    assert find_sure(np.linspace(1, 0, 1000, dtype=np.float32), np.arange(1000) % 50 > 0) is None
    assert find_sure(np.zeros(0, np.float32), np.zeros(0, bool)) is None


@pytest.mark.parametrize(("number", "flagged"), [(540, 5), (100, 1), (90, 0), (1, 0)])
def test_one_val_image_in_a_hundred_has_too_much_energy(number: int, flagged: int) -> None:
    energies = np.random.default_rng(0).normal(-9, 2, number).astype(np.float32)
    assert (energies > bound_energy(energies)).sum() == flagged


def test_what_is_no_digit_is_not_asked_whether_it_is_sure() -> None:
    random = np.random.default_rng(1)
    energies = random.normal(-9, 1, 2000).astype(np.float32)
    distances = random.uniform(10, 20, 2000).astype(np.float32)
    confidences = random.uniform(0.5, 1, 2000).astype(np.float32)
    right = np.ones(2000, bool)
    energies[:400], right[:400], confidences[:400] = 0, False, 1  # wrong, confident, and no digits by their energy
    val = Judged(confidences[:540], random.normal(-9, 1, 540).astype(np.float32), distances[:540])
    thresholds = choose_thresholds(val, Judged(confidences, energies, distances), right)
    assert thresholds.max_energy is not None
    assert thresholds.max_distance == pytest.approx(float(distances[:540].max()))  # val alarms nobody by distance
    assert thresholds.sure_confidence == pytest.approx(0.5, abs=0.01)
    far = Judged(confidences, energies, distances * 3)
    assert choose_thresholds(val, far, right).max_distance == pytest.approx(np.quantile(distances * 3, 0.75))


def test_without_logits_confidence_alone_counts() -> None:
    confidences = np.linspace(1, 0.5, 1000, dtype=np.float32)
    judged = Judged(confidences, None, None)
    thresholds = choose_thresholds(judged, judged, np.ones(1000, bool))
    assert (thresholds.max_energy, thresholds.max_distance) == (None, None)
    assert thresholds.sure_confidence == 0.5
