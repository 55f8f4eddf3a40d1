"""Connected components of a small picture, and which of them are specks. It needs numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


def keep_large(mask: Mask, share: float) -> tuple[Mask, int]:
    """Drop the small 8-connected components of a mask.

    Args:
        mask: H × W.
        share: A component stays if its area is at least this share of the largest one's.

    Returns:
        The mask of the components that stay, H × W, and their number.
    """
    height, width = mask.shape
    starts, ends, row_length = _find_runs(mask)
    if not len(starts):
        return mask, 0
    labels = _label_runs(starts, ends, row_length)
    areas = np.bincount(labels, weights=ends - starts)
    smallest = share * areas.max()
    num_large = int((areas >= smallest).sum())  # labels that no component has have no area
    is_large = areas[labels] >= smallest
    if is_large.all():
        return mask, num_large
    steps = np.zeros(height * row_length + 1, np.int8)
    steps[starts[is_large]] = 1
    steps[ends[is_large]] = -1
    painted = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    kept: Mask = painted.reshape(height, row_length)[:, 1 : width + 1]
    return kept, num_large


def _find_runs(mask: Mask) -> tuple[Integers, Integers, int]:
    """Return where the horizontal runs of a mask start and end in its flat form, whose rows are two columns longer."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), bool)
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return changes[0::2], changes[1::2], mask.shape[1] + 2


def _label_runs(starts: Integers, ends: Integers, row_length: int) -> Integers:
    """Label each run by the first run of its component.

    Runs of neighbouring rows that touch, diagonally too, are joined: the larger of two different labels points to the
    smaller one, then all labels follow the pointers to their ends (the algorithm of Shiloach and Vishkin, 1982).
    """
    first = np.searchsorted(ends - row_length, starts, "left")
    last = np.searchsorted(starts - row_length, ends, "right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(upper))
    labels = np.arange(len(starts))
    while True:
        one, other = labels[upper], labels[lower]
        differ = one != other
        if not differ.any():
            return labels
        np.minimum.at(labels, np.maximum(one, other)[differ], np.minimum(one, other)[differ])
        while (followed := labels[labels]).tolist() != labels.tolist():
            labels = followed
