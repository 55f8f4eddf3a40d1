"""Chooses the thresholds of a saved model's verdicts, by val and shifted val alone.

V images of val, S those of shifted val. What a verdict is, and where the thresholds are applied, says
`app/predictions/verdicts.py`.

The rule for what is no digit was chosen among sums, maxima and quantiles of energy and distance, each at one val image
in a hundred, by noise, printed letters and scribbles. The distance alone flags .39 of real handwriting at that rate,
since other hands are further from the train images than val is; as a bound at a quantile of shifted val it costs next
to nothing, and catches all noise. Two augmented networks of 256 units flag 1.000 of noise, .44–.48 of letters, .44–.47
of scribbles and .05 of real digits; by energy alone .96, .41–.47, .40–.43 and .05.

At `SURE_ACCURACY`, 73 % of 1,000 MNIST digits are sure, and 97.1 % of these are right (five networks of the preset
`handwriting`); at .992 it would be 82 and 95.2 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SURE_ACCURACY = 0.997  # of the sure ones on shifted val
FEWEST_SURE = round(1 / (1 - SURE_ACCURACY))  # images: fewer cannot show that accuracy, even if all are right
FALSE_ALARMS = 0.01  # of val, called no digits
FAR = 0.75  # quantile of shifted val's distances: what is further away is no digit


@dataclass(frozen=True)
class Judged:
    """What a verdict rests on, for N images."""

    confidences: npt.NDArray[np.float32]  # N, the largest probability
    energies: npt.NDArray[np.float32] | None  # N, -logsumexp of the logits; None: the graph has none
    distances: npt.NDArray[np.float32] | None  # N, to the nearest train image; None with the energies


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of verdicts; None: the measure says nothing."""

    sure_confidence: float | None  # at least as confident: sure; None: none is
    max_energy: float | None  # beyond: no digit
    max_distance: float | None


def choose_thresholds(
    val: Judged, shifted: Judged, right: npt.NDArray[np.bool_], max_distance: float | None = None
) -> Thresholds:
    """Choose a model's thresholds.

    Args:
        val: The model's answers for val.
        shifted: Those for shifted val.
        right: Whether its answers for shifted val are right, S.
        max_distance: What `bound_distance` returns, which is the same for all models of a split; None: it is called.
    """
    is_digit = np.ones(len(right), bool)
    if val.energies is None or val.distances is None:
        max_energy = max_distance = None
    else:
        assert shifted.energies is not None
        assert shifted.distances is not None
        max_energy = bound_energy(val.energies)
        max_distance = bound_distance(val.distances, shifted.distances) if max_distance is None else max_distance
        is_digit = (shifted.energies <= max_energy) & (shifted.distances <= max_distance)
    sure_confidence = find_sure(shifted.confidences[is_digit], right[is_digit])
    return Thresholds(sure_confidence, max_energy, max_distance)


def bound_distance(val: npt.NDArray[np.float32], shifted: npt.NDArray[np.float32]) -> float:
    """The distance that no val image exceeds, and a quarter of shifted val at most."""
    return float(max(np.quantile(shifted, FAR), val.max()))


def bound_energy(energies: npt.NDArray[np.float32]) -> float:
    """The energy that one image in a hundred exceeds: between that image and the next, away from rounding."""
    descending = np.sort(energies)[::-1].astype(np.float64)
    number = int(FALSE_ALARMS * len(descending))
    return float(descending[max(0, number - 1) : number + 1].mean())


def find_sure(confidences: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> float | None:
    """The smallest confidence such that `SURE_ACCURACY` of the answers with at least as much are right.

    None if there is none that leaves `FEWEST_SURE` answers.
    """
    # Bits of floats from 0 to 1 are ordered as the floats are, and their first bit is free: a key says in its last one
    # whether the answer is right. Sorting keys takes a third of the time of sorting indices.
    keys = np.sort(confidences.view(np.uint32) << 1 | right)[::-1]
    descending = (keys >> 1).view(np.float32)
    accuracies = np.cumsum(keys & 1) / np.arange(1, len(keys) + 1)
    is_possible = accuracies >= SURE_ACCURACY
    is_possible[:-1] &= descending[1:] < descending[:-1]  # equal confidences are sure together
    is_possible[: FEWEST_SURE - 1] = False
    possible = np.flatnonzero(is_possible)
    return float(descending[possible[-1]]) if len(possible) else None
