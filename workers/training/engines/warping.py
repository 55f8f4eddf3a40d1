"""Warped copies of images, compiled by Numba. Formulas, constants and sources are those of `augmentation`.

Shape letters: K copies, N images; S = 32 rows and columns of an enlarged image, E = 36 of the same with its border.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from workers.training import augmentation, randomness
from workers.training.augmentation import (
    BANK_SEED,
    BORDER,
    EDGE,
    ELASTIC,
    FACTOR,
    NUM_BLOCKS,
    NUM_POINTS,
    NUM_UNIFORMS,
    SIDE,
    SMALL,
    STEEPNESS,
)
from workers.training.config import NUM_PIXELS
from workers.training.device import available_cores
from workers.training.engines.compilation import OPTIONS, Array, compiled
from workers.training.engines.draws import philox
from workers.training.engines.kernels import float_of_bits

LEVELS = 2**15 - 1
MASK, SHIFT = np.int32(0xFFFF), np.int32(16)
WORD = float(randomness.WORD)

_affine_map: Callable[..., Any] = numba.njit(**OPTIONS)(augmentation.affine_map)
_soft_threshold: Callable[..., Any] = numba.njit(**OPTIONS)(augmentation.soft_threshold)


def warp_copies(
    enlarged: Array,
    numbers: Array,
    copies: range,
    quarters: int,
    purpose: int,
    threads: int | None,
    on_copy: Callable[[], None],
) -> Array:
    """The copies (K × N × 64) of images that `augmentation.enlarge` has made (N × E × E), whose numbers are `numbers`.

    A thread makes one copy of all images after the other; the order changes no copy.
    """
    out = np.empty((len(copies), len(enlarged), NUM_PIXELS), np.uint8)
    images, spread = pack(enlarged), augmentation.spread_matrix()

    def make(number: int) -> None:
        warp_images(images, numbers, copies[number], purpose, quarters, spread, out[number])
        on_copy()

    num_threads = min(threads or available_cores(), len(copies))
    if num_threads <= 1:  # no thread is started: a process that has only this one may fork
        for number in range(len(copies)):
            make(number)
    else:
        with ThreadPoolExecutor(num_threads, thread_name_prefix="augmentation") as pool:
            for _ in pool.map(make, range(len(copies))):  # raises what the code raised
                pass
    return out


def pack(enlarged: Array) -> Array:
    """Images in the form that the kernels read: N × E², int64, each number a pixel and three of its neighbours.

    A sample takes one load instead of four. The pixel, the one on its right, and the two below them are whole numbers
    of 0 to `LEVELS`, in 16 bits each, from the lowest.
    """
    levels = np.pad(np.rint(enlarged * LEVELS).astype(np.int64), ((0, 0), (0, 1), (0, 1)))
    rows = levels[:, :, :-1] | levels[:, :, 1:] << 16
    return np.ascontiguousarray(rows[:, :-1] | rows[:, 1:] << 32).reshape(len(enlarged), -1)


@compiled
def warp_images(
    images: Array, numbers: Array, copy: int, purpose: int, quarters: int, spread: Array, out: Array
) -> None:
    """Write one copy of each image to `out` (N × 64, uint8).

    Args:
        images: See `pack` (N × E², int64).
        numbers: Of the images in their dataset (N).
        copy: The copy's number.
        purpose: As a number.
        quarters: Four times the strength.
        spread: See `augmentation.spread_matrix` (3 × S).
        out: Overwritten.
    """
    strength = quarters / 4
    words = np.empty(4 * NUM_BLOCKS)
    sources = np.empty((2, 3 + NUM_POINTS), np.float32)
    for image in range(numbers.size):
        for block in range(NUM_BLOCKS):
            w0, w1, w2, w3 = philox(numbers[image], copy, purpose, block, BANK_SEED, quarters)
            words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = w0, w1, w2, w3
        for i in range(words.size):
            words[i] = (words[i] + 0.5) / WORD
        a, b, to_x, c, d, to_y = _affine_map(strength, words[0], words[1], words[2], words[3], words[4], words[5])
        sources[0, 0], sources[0, 1], sources[0, 2] = a, b, to_x
        sources[1, 0], sources[1, 1], sources[1, 2] = c, d, to_y
        for point in range(NUM_POINTS):
            place = NUM_UNIFORMS + 2 * point
            radius, angle = strength * ELASTIC * math.sqrt(-2 * math.log(words[place])), 2 * math.pi * words[place + 1]
            sources[0, 3 + point], sources[1, 3 + point] = radius * math.cos(angle), radius * math.sin(angle)
        warp(images[image], sources, spread, np.float32(_soft_threshold(words[6], strength)), out[image])


@compiled
def warp(squares: Array, sources: Array, spread: Array, threshold: Any, out: Array) -> None:
    """Write one copy of one image to `out` (64, uint8).

    Args:
        squares: The image (E², int64), see `pack`.
        sources: 2 × 12, float32: where a pixel's column (x) and row (y) come from: the affine map's factors of column
            and row and its constant, then the displacements of the 3 × 3 control points, all in pixels of 32.
        spread: See `augmentation.spread_matrix` (3 × S).
        threshold: Where the soft threshold is .5.
        out: Overwritten.
    """
    one, half = np.float32(1), np.float32(0.5)
    steepness = np.float32(STEEPNESS / math.log(2) / LEVELS)  # e^x = 2^(x / ln 2)
    level = threshold * np.float32(LEVELS)
    low, high, edge = np.float32(-1), np.float32(SIDE), np.float32(EDGE)  # beyond, all is border, whose value is 0
    origin = np.float32(BORDER * EDGE + BORDER)
    near, middle, far = spread[0], spread[1], spread[2]
    size = SIDE * SIDE
    places, across, down = np.empty(size, np.int32), np.empty(size, np.float32), np.empty(size, np.float32)
    corners = np.empty(size, np.int64)
    pairs = corners.view(np.int32)
    # Each loop does one thing, so that LLVM makes vector code of all but the second.
    for row in range(SIDE):
        x_step, x_start, x0, x1, x2 = _along_row(sources[0], spread, row)
        y_step, y_start, y0, y1, y2 = _along_row(sources[1], spread, row)
        part = slice(row * SIDE, (row + 1) * SIDE)
        row_places, row_across, row_down = places[part], across[part], down[part]
        for column in range(SIDE):
            px = x_start + x_step * np.float32(column) + (x0 * near[column] + x1 * middle[column] + x2 * far[column])
            py = y_start + y_step * np.float32(column) + (y0 * near[column] + y1 * middle[column] + y2 * far[column])
            px, py = min(max(px, low), high), min(max(py, low), high)
            left, top = np.floor(px), np.floor(py)
            row_across[column], row_down[column] = px - left, py - top
            row_places[column] = np.int32(top * edge + left + origin)
    for i in range(size):
        corners[i] = squares[np.uint64(places[i])]  # unsigned: Numba looks for no negative index
    for i in range(size):
        top_pair, bottom_pair = pairs[2 * i], pairs[2 * i + 1]
        a, b = np.float32(top_pair & MASK), np.float32(top_pair >> SHIFT)
        c, d = np.float32(bottom_pair & MASK), np.float32(bottom_pair >> SHIFT)
        upper, lower = a + across[i] * (b - a), c + across[i] * (d - c)
        value = upper + down[i] * (lower - upper)
        down[i] = one + _power_of_2(steepness * (level - value))  # what the sigmoid divides by
    sums = across[:SIDE]
    for row in range(SMALL):
        for column in range(SIDE):
            start = row * FACTOR * SIDE + column
            a, b, c, d = down[start], down[start + SIDE], down[start + 2 * SIDE], down[start + 3 * SIDE]
            ab, cd = a * b, c * d  # 1/a + 1/b + 1/c + 1/d by one division: the product is below 10^17
            sums[column] = ((a + b) * cd + (c + d) * ab) / (ab * cd)
        for column in range(SMALL):
            total = sums[4 * column] + sums[4 * column + 1] + sums[4 * column + 2] + sums[4 * column + 3]
            out[row * SMALL + column] = np.uint8(total + half)  # 16 times the mean, rounded


@compiled
def _power_of_2(x: Any) -> Any:
    """2 to the x in float32, for |x| up to 100, with a relative error of 5e-5: much less than a sixteenth of a pixel.

    It is 2^floor(x) · 2^f, where 2^f is the Taylor polynomial of e^(f ln 2) around f = 1/2.
    """
    whole = np.floor(x)
    f = x - whole - np.float32(0.5)
    power = np.float32(0.0136020886)
    power = power * f + np.float32(0.0784946632)
    power = power * f + np.float32(0.339731584)
    power = power * f + np.float32(0.980258143)
    power = power * f + np.float32(1.41421356)
    # A float32 stores its exponent plus 127 above 23 bits of mantissa: these bits are 2^whole.
    return power * float_of_bits(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


@compiled
def _along_row(source: Array, spread: Array, row: int) -> tuple[Any, Any, Any, Any, Any]:
    """A row's step and start of the affine map, and its three control points: each column of them mixed for the row."""
    near, middle, far = spread[0, row], spread[1, row], spread[2, row]
    return (
        source[0],
        source[1] * np.float32(row) + source[2],
        near * source[3] + middle * source[6] + far * source[9],
        near * source[4] + middle * source[7] + far * source[10],
        near * source[5] + middle * source[8] + far * source[11],
    )
