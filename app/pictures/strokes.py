"""Draws strokes as ink: the pen is round, and a fixed share of the digit's height wide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from app.pictures.normalization import WORKING_SIDE, Ink

Points = npt.NDArray[np.float64]

PEN = 0.11  # width of the pen, of the digit's height
MIN_ASPECT = 0.5  # a flatter drawing counts as so high, as a share of its width: a horizontal line has no height
MIN_EXTENT = 1e-12  # of a drawing in both directions, in the client's unit; a smaller one is a dot
OVERSAMPLING = 4  # drawn so much larger, then reduced, so that edges are smooth


def draw(strokes: Sequence[Points]) -> Ink:
    """Draw the strokes of one digit.

    Args:
        strokes: Each K × 2, x to the right and y downwards in any unit; a stroke of one point is a dot.

    Returns:
        Ink whose longer side is `WORKING_SIDE` pixels, with a margin of 2 pixels; nothing but that if there are no
        points.
    """
    points = np.concatenate([*strokes, np.empty((0, 2))])
    if not len(points):
        return np.zeros((1, 1), np.float32)
    first = points.min(axis=0)
    width, height = points.max(axis=0) - first
    extent = max(width, height)
    pen = PEN / (1 - PEN) * max(height, MIN_ASPECT * width)
    scale = OVERSAMPLING * WORKING_SIDE / (extent + pen) if extent > MIN_EXTENT else 0.0
    radius = scale * pen / 2 if scale else OVERSAMPLING * WORKING_SIDE / 2
    margin = 2 * OVERSAMPLING + radius
    size = [OVERSAMPLING * int(np.ceil((scale * side + 2 * margin) / OVERSAMPLING)) for side in (width, height)]
    picture = Image.new("L", (size[0], size[1]))
    pen_tip = ImageDraw.Draw(picture)
    for stroke in strokes:
        _draw_stroke(pen_tip, _thin_out((stroke - first) * scale + margin), radius)
    return np.asarray(picture.reduce(OVERSAMPLING), np.float32) / np.float32(255)


def _draw_stroke(pen_tip: ImageDraw.ImageDraw, points: Points, radius: float) -> None:
    corners = [(float(x), float(y)) for x, y in points]
    pen_tip.line(corners, fill=255, width=max(1, round(2 * radius)))
    for x, y in corners:
        pen_tip.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _thin_out(points: Points) -> Points:
    """Drop points that lie in the same drawn pixel as the point before."""
    pixels = np.floor(points / OVERSAMPLING)
    moves = np.any(pixels[1:] != pixels[:-1], axis=1)
    kept = np.concatenate(([True], moves)) if len(points) else np.empty(0, bool)
    kept[-1:] = True
    return points[kept]
