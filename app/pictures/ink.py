"""Finds the ink of a grey picture: what is background, what is drawn, and where.

A picture is looked at twice: an overview of at most 128 pixels tells the background, its polarity and the digit's box;
then the box alone is brought to 96 pixels, so that a small digit in a large photo is as sharp as a picture of it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.pictures.components import Mask
from app.pictures.decoding import Grey
from app.pictures.normalization import INK_THRESHOLD, WORKING_SIDE, Ink, drop_specks, find_box

OVERVIEW_SIDE = 128  # pixels
MAX_ENLARGEMENT = 8  # of small pictures
MARGIN = 0.08  # around the digit's box, of its longer side
# A background is flat where this share of the border's pixels differs by at most so much from their median, and where
# no more pixels lie between background and ink than edges have.
FLAT_SHARE, FLAT_RANGE = 0.5, 0.03
FLAT_EDGES = 2.0
MIN_CONTRAST_FLAT, MIN_CONTRAST_UNEVEN = 0.04, 0.1  # less is a blank picture
MAP_SIDE, MAP_WINDOW = 32, 15  # the map of an uneven background, in cells; the window of its medians
NUM_LEVELS = 64  # of Otsu's histogram


@dataclass(frozen=True)
class Background:
    """What a picture would be without ink, 0 to 1; one value if it is flat, else a map of the whole picture."""

    level: npt.NDArray[np.float32]
    is_dark: bool
    is_flat: bool

    def contrast(self, grey: Ink, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Ink:
        """Compute how much a picture, or the part of it in a box, differs from the background; ink is positive.

        Dark ink absorbs a share of the light, and light ink adds a share of what is missing to white.

        Args:
            grey: The part of the picture, H × W, 0 to 1.
            box: Left, top, right and bottom of the part, as shares of the picture.
        """
        level = self.level if self.is_flat else _resize(self.level, grey.shape, box)
        if self.is_flat:
            return (grey - level) if self.is_dark else (level - grey)
        light = (np.float32(1) - level) if self.is_dark else level
        share = ((grey - level) if self.is_dark else (level - grey)) / np.maximum(light, np.float32(0.1))
        return share.astype(np.float32, copy=False)


def find_ink(grey: Grey) -> tuple[Ink, float] | None:
    """Find what is drawn in a picture.

    Args:
        grey: H × W, uint8.

    Returns:
        The ink of the digit's box and a little around it, its longer side about `WORKING_SIDE` pixels; and the
        threshold beyond which it is part of the digit. None if the picture is blank.
    """
    picture = Image.fromarray(grey)
    overview = _shrink(picture)
    background = find_background(overview)
    if background is None:
        return None
    found = _scale(background.contrast(overview), background)
    if found is None:
        return None
    ink, threshold = found
    mask = drop_specks(ink, threshold)[0] > threshold
    if not mask.any():
        return None
    part, box = _cut(picture, mask)
    return _scale(background.contrast(part, box), background)


def find_background(grey: Ink) -> Background | None:
    """Tell the background of an overview; None if nothing differs from it.

    A flat background is the median of the border. An uneven one (shadows, vignettes, folds) is a map of medians, in
    windows that are wider than strokes. Ink is on the side of the background where the picture differs more from it.
    """
    border = np.concatenate((grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]))
    level = np.median(border)
    differences = grey - level
    highest, lowest = differences.max(), differences.min()
    size = max(highest, -lowest)
    if size < MIN_CONTRAST_FLAT:
        return None
    is_dark = bool(highest > -lowest)
    flat = Background(np.float32(level), is_dark, is_flat=True)  # type: ignore[arg-type]
    if (np.abs(border - level) <= FLAT_RANGE).mean() >= FLAT_SHARE and _has_edges_only(flat.contrast(grey) / size):
        return flat
    return find_uneven_background(grey)


def find_uneven_background(grey: Ink) -> Background:
    cells = _resize(grey, (min(MAP_SIDE, grey.shape[0]), min(MAP_SIDE, grey.shape[1])))
    level = _medians(cells)
    differences = cells - level
    is_dark = bool((np.maximum(differences, 0) ** 2).sum() > (np.minimum(differences, 0) ** 2).sum())
    return Background(level, is_dark, is_flat=False)


def otsu(values: Ink) -> float:
    """Return the threshold that separates values of 0 to 1 best into two classes (Otsu, 1979)."""
    counts, edges = np.histogram(values, NUM_LEVELS, (0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[::-1][1:]
    sum_below = np.cumsum(counts * centres)[:-1]
    sum_above = (counts * centres).sum() - sum_below
    differences = sum_below / np.maximum(below, 1) - sum_above / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * differences**2)])


def _has_edges_only(ink: Ink) -> bool:
    """Whether what lies between background and ink is no more than the edges of strokes are."""
    between = ((ink > 0.1) & (ink < 0.6)).sum()
    return bool(between <= FLAT_EDGES * (ink >= 0.6).sum() + 8)


def _scale(contrast: Ink, background: Background) -> tuple[Ink, float] | None:
    """Scale contrasts to 0 (background) and 1 (ink); None if there is too little of it."""
    positive = np.maximum(contrast, np.float32(0))
    if background.is_flat:
        full, threshold = float(positive.max()), INK_THRESHOLD
        if full < MIN_CONTRAST_FLAT:
            return None
        return np.minimum(positive / np.float32(full), np.float32(1)), threshold
    level = otsu(positive)
    is_ink = positive > level
    full = float(positive[is_ink].mean()) if is_ink.any() else 0.0
    if full < MIN_CONTRAST_UNEVEN:
        return None
    return np.minimum(positive / np.float32(full), np.float32(1)), level / full


def _shrink(picture: Image.Image) -> Ink:
    longer = max(picture.size)
    if longer > OVERVIEW_SIDE:
        factor = OVERVIEW_SIDE / longer
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.BOX)
    return np.asarray(picture, np.float32) / np.float32(255)


def _cut(picture: Image.Image, mask: Mask) -> tuple[Ink, tuple[float, float, float, float]]:
    """Cut the digit's box out of a picture, with a margin.

    Returns:
        The part, its box's longer side brought to `WORKING_SIDE` pixels; and where it lies, as shares of the picture.
    """
    scale = picture.width / mask.shape[1], picture.height / mask.shape[0]
    top, bottom, left, right = find_box(mask)
    longer = max((right - left) * scale[0], (bottom - top) * scale[1])
    margin = MARGIN * longer + 2 * max(scale)
    start = max(0, int(left * scale[0] - margin)), max(0, int(top * scale[1] - margin))
    end = min(picture.width, round(right * scale[0] + margin)), min(picture.height, round(bottom * scale[1] + margin))
    factor = min(MAX_ENLARGEMENT, WORKING_SIDE / longer)
    size = [max(1, round((end[axis] - start[axis]) * factor)) for axis in (0, 1)]
    part = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC, box=(*start, *end))
    shares = start[0] / picture.width, start[1] / picture.height, end[0] / picture.width, end[1] / picture.height
    return np.asarray(part, np.float32) / np.float32(255), shares


def _resize(values: Ink, shape: tuple[int, ...], box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Ink:
    """Resize values, or the part of them in a box (as shares), linearly."""
    height, width = values.shape
    pixels = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    resized = Image.fromarray(values).resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=pixels)
    return np.asarray(resized)


def _medians(cells: Ink) -> Ink:
    """Return the median of the window around each cell; outside, the picture goes on as mirrored in its border's point.

    Every second cell of a window is looked at.
    """
    reach = MAP_WINDOW // 2
    margins = [min(reach, length - 1) for length in cells.shape]
    padded = np.pad(cells, [(margin, margin) for margin in margins], mode="reflect", reflect_type="odd")
    windows = np.lib.stride_tricks.sliding_window_view(padded, [2 * margin + 1 for margin in margins])[..., ::2, ::2]
    return np.median(windows, axis=(2, 3)).astype(np.float32)
