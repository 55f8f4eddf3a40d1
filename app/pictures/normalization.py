"""From ink to the 8×8 pixels of `load_digits`: NIST's normalisation, step by step.

UCI's digits were made by NIST's preprocessing (Garris and others, "NIST Form-Based Handprint Recognition System"):
the digit's box is stretched to 20 × 32, its slant is taken out, its strokes are brought to a common thickness, and 4×4
blocks of the bitmap are counted. What each step is worth, in points of accuracy on handwriting of other people, for a
plain and for an augmented network: the box +13.5 / +9, the slant +13 / +2.7, black and white +1 / +4, the thickness
+1 / +2. A single speck of 2 pixels that is not dropped costs 16 points.

A model has seen digits alone: stretched to their box, a dot or a blot looks like a 1. So what is drawn is looked at
before it is stretched. All of 5,000 MNIST digits lie in three pieces or fewer, and squares inside their strokes are at
most .52 of their height; 999 in 1,000 are below .45.

Shapes: ink is H × W, float32, 0 (background) to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.datasets.catalog import MAX_PIXEL, NUM_PIXELS
from app.pictures.components import Mask, keep_large

Ink = npt.NDArray[np.float32]
Digit = npt.NDArray[np.uint8]

INK_THRESHOLD = 0.45
SPECK_SHARE = 0.06
DESKEW_SHARE = 0.85  # part of the slant that is taken out
MAX_SHEAR = 1.0
HEIGHT, MAX_WIDTH, MIN_WIDTH = 32, 20, 8  # of the digit's box in the bitmap of 32 × 32
SCALE = 2  # the bitmap is drawn at twice its size
SIDE = HEIGHT * SCALE
ON_SHARE = 0.305  # mean pixel of `load_digits`, of 16
MAX_THINNING, MAX_THICKENING = 1.5, 2.5  # pixels of the bitmap of 32
WORKING_SIDE = 96  # longer side of the digit's box, in pixels, that the steps work at
MAX_PIECES = 4  # of a digit
BLOT_SHARE = 0.45  # of a drawing's height: a stroke so thick is none


class Normalized(NamedTuple):
    """A digit as models see it, and whether it can be one by the shape that was drawn."""

    pixels: Digit  # 64, 0 to 16; all of them 0 if there is no ink
    is_shaped: bool  # False: it lies in more than `MAX_PIECES` pieces, or is a blot


BLANK = Normalized(np.zeros(NUM_PIXELS, np.uint8), is_shaped=True)


def normalize(ink: Ink, threshold: float = INK_THRESHOLD) -> Normalized:
    """Make the 8×8 pixels of the digit in a picture.

    Args:
        ink: H × W, 0 to 1.
        threshold: Ink above it is part of the digit.
    """
    digit, num_pieces = drop_specks(ink, threshold)
    if not num_pieces:
        return BLANK
    upright = deskew(digit, threshold)
    if not (upright > threshold).any():  # a few faint pixels, which the shear has spread
        upright = digit
    is_shaped = num_pieces <= MAX_PIECES and not is_blot(upright > threshold)
    bitmap = stretch(upright, threshold)
    return Normalized(count_blocks(even_out(bitmap)), is_shaped)


def drop_specks(ink: Ink, threshold: float) -> tuple[Ink, int]:
    """Drop what lies apart from the digit and is small, with the fainter ink around it; count the pieces that stay."""
    mask = ink > threshold
    kept, num_pieces = keep_large(mask, SPECK_SHARE)
    if kept is mask:
        return ink, num_pieces
    around = _grow(_grow(mask & ~kept)) & ~kept
    return np.where(around, np.float32(0), ink), num_pieces


def is_blot(mask: Mask) -> bool:
    """Whether a square of `BLOT_SHARE` of the mask's height lies inside it: it has no strokes."""
    top, bottom, left, right = find_box(mask)
    side = int(np.ceil(BLOT_SHARE * (bottom - top)))
    if side > right - left:
        return False
    sums = np.zeros((bottom - top + 1, right - left + 1), np.int32)  # of all pixels above and to the left of a corner
    sums[1:, 1:] = mask[top:bottom, left:right].cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
    in_squares = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool((in_squares == side * side).any())


def deskew(ink: Ink, threshold: float) -> Ink:
    """Shear the rows of a digit until most of its slant is gone; linear interpolation does not overshoot."""
    weights = np.where(ink > threshold / 2, ink, np.float32(0))
    by_row = weights.sum(axis=1, dtype=np.float64)
    rows, columns = (np.arange(length, dtype=np.float64) for length in ink.shape)
    total = by_row.sum()
    down = rows - (by_row @ rows) / total
    across = columns - (weights.sum(axis=0, dtype=np.float64) @ columns) / total
    variance = by_row @ down**2
    slant = (down @ (weights @ across)) / variance if variance > 0 else 0.0
    return shear(ink, float(np.clip(DESKEW_SHARE * slant, -MAX_SHEAR, MAX_SHEAR)), rows[-1] - down[-1])


def shear(ink: Ink, slope: float, centre: float) -> Ink:
    """Move each row to the left by `slope` times its distance to the centre row; the picture grows as it needs."""
    margin = int(np.ceil(abs(slope) * len(ink))) + 1
    padded = np.zeros((len(ink), ink.shape[1] + 2 * margin), np.float32)
    padded[:, margin:-margin] = ink
    wide = Image.fromarray(padded)
    # Pillow's coordinates are those of corners: the middle of the first pixel is at 0.5.
    coefficients = (1, slope, -slope * (centre + 0.5), 0, 1, 0)
    sheared = wide.transform(wide.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(sheared)


def stretch(ink: Ink, threshold: float) -> Mask:
    """Stretch the digit's box to 32 rows and at most 20 columns, centred in a bitmap of 64 × 64 (twice the size)."""
    top, bottom, left, right = find_box(ink > threshold)
    width = min(MAX_WIDTH, max(MIN_WIDTH, HEIGHT * (right - left) / (bottom - top)))
    num_columns = round(SCALE * width)
    box = Image.fromarray(np.ascontiguousarray(ink[top:bottom, left:right]))
    drawn = np.asarray(box.resize((num_columns, SIDE), Image.Resampling.BICUBIC))
    bitmap = np.zeros((SIDE, SIDE), bool)
    start = (SIDE - num_columns) // 2
    bitmap[:, start : start + num_columns] = drawn > threshold
    return bitmap


def find_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return the first and last row and column (the last ones exclusive) of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def even_out(bitmap: Mask) -> Mask:
    """Thicken or thin the strokes until about `ON_SHARE` of the bitmap is on, within limits.

    Many pixels are equally far from the edge: they are taken in or left out together, whichever comes closer.
    """
    distances = signed_distance(bitmap, int(SCALE * max(MAX_THINNING, MAX_THICKENING)) + 1)
    num_on = round(ON_SHARE * bitmap.size)
    level = np.partition(distances, num_on, axis=None)[num_on]
    limited = np.clip(level, -SCALE * MAX_THINNING, SCALE * MAX_THICKENING)
    even: Mask = distances <= limited
    below: Mask = distances < limited
    takes_in = level != limited or even.sum() - num_on <= num_on - below.sum()
    return even if takes_in else below


def signed_distance(mask: Mask, limit: int) -> Ink:
    """Compute each pixel's Euclidean distance to the edge of a mask, negative inside it, up to a limit (at most 11).

    Distances to the mask and to what is outside it are computed together, along rows first, then along columns. Squares
    of up to twice the limit's fit into a byte, which makes this ten times as fast as floating point.
    """
    far = limit * limit
    squares = np.stack((~mask, mask)).view(np.uint8) * np.uint8(far)  # 2 × H × W
    for _ in range(2):
        columns = np.ascontiguousarray(squares.transpose(0, 2, 1))
        length = columns.shape[1]
        padded = np.full((2, length + 2 * limit, columns.shape[2]), far, np.uint8)
        padded[:, limit:-limit] = columns
        for step in range(1, limit + 1):
            first, last = limit - step, limit + step
            nearest = np.minimum(padded[:, first : first + length], padded[:, last : last + length])
            nearest += np.uint8(step * step)
            np.minimum(columns, nearest, out=columns)
        squares = columns
    to_mask, to_outside = np.sqrt(squares, dtype=np.float32)
    distances: Ink = to_mask - to_outside
    return distances


def count_blocks(bitmap: Mask) -> Digit:
    """Return the share of each block that is on, 64 × uint8, 0 to 16."""
    block = SIDE // 8
    shares = bitmap.reshape(8, block, 8, block).mean(axis=(1, 3))
    pixels: Digit = np.rint(MAX_PIXEL * shares).astype(np.uint8).ravel()
    return pixels


def _grow(mask: Mask) -> Mask:
    """Grow a mask by one pixel in all eight directions."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    grown: Mask = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return grown
