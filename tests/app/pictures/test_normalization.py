"""Normalisation: properties that hold for every digit, and the steps one by one."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from app.pictures.components import keep_large
from app.pictures.normalization import (
    HEIGHT,
    MAX_WIDTH,
    ON_SHARE,
    SCALE,
    SIDE,
    count_blocks,
    deskew,
    even_out,
    normalize,
    signed_distance,
    stretch,
)
from app.pictures.strokes import draw

SEVEN = draw([np.array([[0.0, 0.0], [1.0, 0.0], [0.4, 1.5]])])
MASKS = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).random((9, 11)) < 0.4)


def pieces(number: int) -> np.ndarray:
    """Ink in so many upright bars."""
    return np.tile(np.pad(np.ones((60, 8), np.float32), 4), number)


def components_of(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Find 8-connected components by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        waiting, component = [left.pop()], set()
        while waiting:
            y, x = waiting.pop()
            component.add((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            waiting.extend(around)
        found.append(component)
    return found


@hypothesis.settings(max_examples=50)
@hypothesis.given(MASKS, st.sampled_from([0.06, 0.3, 1.0]))
def test_components_that_stay_are_those_that_a_walk_finds_large(mask: np.ndarray, share: float) -> None:
    components = components_of(mask)
    largest = max(map(len, components), default=0)
    expected = np.zeros_like(mask)
    for component in components:
        for place in component:
            expected[place] = len(component) >= share * largest
    kept, num_kept = keep_large(mask, share)
    assert np.array_equal(kept, expected)
    assert num_kept == sum(len(component) >= share * largest for component in components)


@hypothesis.settings(max_examples=30)
@hypothesis.given(MASKS)
def test_distances_are_those_to_the_nearest_pixel_of_the_other_kind(mask: np.ndarray) -> None:
    hypothesis.assume(mask.any() and not mask.all())
    places = np.argwhere(np.ones_like(mask)).reshape(*mask.shape, 2)

    def nearest(others: np.ndarray) -> np.ndarray:
        distances: np.ndarray = np.sqrt(((places[:, :, None] - np.argwhere(others)) ** 2).sum(-1)).min(-1)
        return distances

    expected = np.where(mask, -nearest(~mask), nearest(mask))
    assert np.allclose(signed_distance(mask, 5), np.clip(expected, -5, 5))


def test_no_ink_is_64_zeros() -> None:
    assert normalize(np.zeros((40, 30), np.float32)).pixels.tolist() == [0] * 64


def test_a_digit_fills_the_height_and_leaves_the_outer_columns_empty() -> None:
    pixels = normalize(SEVEN).pixels.reshape(8, 8)
    assert pixels.dtype == np.uint8
    assert pixels[0].max() == pixels[7].max() == 16
    assert pixels[:, [0, 7]].max() <= 2


@pytest.mark.parametrize("place", [(0, 0), (170, 140), (95, 3)])
def test_a_speck_changes_no_pixel(place: tuple[int, int]) -> None:
    wide = np.pad(SEVEN, 40)
    specked = wide.copy()
    specked[place[0] : place[0] + 3, place[1] : place[1] + 3] = 1
    expected = normalize(wide).pixels
    assert wide[place] == 0
    assert np.abs(normalize(specked).pixels.astype(int) - expected).mean() < 0.1


@pytest.mark.parametrize(
    ("name", "ink", "is_shaped"),
    [
        ("a digit", SEVEN, True),
        ("by a thick pen", np.maximum(SEVEN, np.roll(SEVEN, 9, axis=1)), True),
        ("a 1 of a bold font", np.pad(np.ones((90, 38), np.float32), 3), True),
        ("nothing", np.zeros((9, 9), np.float32), True),
        ("a dot", draw([np.array([[3.0, 3.0]])]), False),
        ("a full box", np.pad(np.ones((50, 40), np.float32), 3), False),
        ("a line that lies", draw([np.array([[0.0, 0.0], [9.0, 0.0]])]), False),
        ("four pieces", pieces(4), True),
        ("five pieces", pieces(5), False),
    ],
)
def test_blots_and_many_pieces_have_no_digits_shape(name: str, ink: np.ndarray, is_shaped: bool) -> None:
    assert normalize(ink).is_shaped is is_shaped, name


def test_slant_is_taken_out() -> None:
    upright = draw([np.array([[0.0, 0.0], [0.0, 1.0]])])
    slanted = draw([np.array([[0.4, 0.0], [0.0, 1.0]])])
    difference = np.abs(normalize(upright).pixels.astype(int) - normalize(slanted).pixels).mean()
    assert difference < 1.5
    assert np.abs(count_blocks(stretch(slanted, 0.5)).astype(int) - count_blocks(stretch(upright, 0.5))).mean() > 3


def test_deskewing_keeps_all_ink_and_stays_between_0_and_1() -> None:
    sheared = deskew(SEVEN, 0.5)
    assert (float(sheared.min()), float(sheared.max())) == (0, 1)
    assert np.allclose(sheared.sum(axis=1), SEVEN.sum(axis=1), rtol=1e-4)


def test_the_aspect_is_not_kept() -> None:
    wide = stretch(np.ones((10, 40), np.float32), 0.5)
    assert wide.sum() == SCALE * MAX_WIDTH * SCALE * HEIGHT
    assert stretch(np.ones((40, 1), np.float32), 0.5).any(axis=0).sum() == SCALE * 8


@pytest.mark.parametrize("width", [4, 7, 10])
def test_thin_and_thick_strokes_get_the_same_share_of_ink(width: int) -> None:
    bitmap = np.zeros((SIDE, SIDE), bool)
    bitmap[:, 14:50] = True
    bitmap[width:-width, 14 + width : 50 - width] = False  # a ring
    share = even_out(bitmap).mean()
    assert share == pytest.approx(ON_SHARE, abs=0.03)


def test_blocks_are_counted_in_sixteenths() -> None:
    bitmap = np.zeros((SIDE, SIDE), bool)
    bitmap[:8, :8] = True
    bitmap[8:16, :4] = True
    assert count_blocks(bitmap).reshape(8, 8)[:2, 0].tolist() == [16, 8]
