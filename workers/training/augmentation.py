"""Augmentation: warped copies of images, as differently as people write one digit.

An image is enlarged to 32 × 32 pixels, so that its block means are the image again (back-projection: M. Irani and
S. Peleg, "Improving resolution by image registration", CVGIP 53, 1991). A copy samples it along an affine and elastic
map (P. Y. Simard, D. Steinkraus and J. C. Platt, "Best practices for convolutional neural networks", ICDAR 2003),
passes a soft threshold, which makes strokes thicker or thinner, and is shrunk back to 8 × 8.

Copy k of image i is a pure function of (i, k, strength, purpose) and the image: see `draw`. `engines/warping.py`
computes the same in compiled code. Two machines may differ by one sixteenth in a pixel whose value lies on the edge
between two, since their sines and exponentials may differ in the last bit.

Shape letters: N images, K copies; S = 32 rows and columns of an enlarged image; E = 36 of the same with its border.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.training.config import NUM_PIXELS
from workers.training.randomness import WORD, Purpose, philox

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.integer]

SMALL, SIDE = 8, 32  # rows and columns of an image, and of an enlarged one (S)
FACTOR = SIDE // SMALL
BORDER = 2  # zeros around an enlarged image, on each side
EDGE = SIDE + 2 * BORDER  # E
MAX_PIXEL = 16.0
NUM_ROUNDS = 15  # of back-projection
BICUBIC = -0.75  # the parameter of the cubic convolution, as in `torch.nn.functional.interpolate`

BANK_SEED = 0x6469_6769  # one half of the key of every copy's random numbers
NUM_BLOCKS = 7  # blocks of four words that a copy draws
NUM_UNIFORMS = 8
NUM_POINTS = 9  # 3 × 3 control points of the elastic map
# Half of the range of each uniform number at strength 1, in the order of the words; the eighth word is not used.
ROTATION = math.radians(12)
LOG_WIDTH, LOG_HEIGHT = 0.2, 0.12
SHEAR = 0.4
SHIFT_X, SHIFT_Y = 0.12, 0.08  # the image spans -1 … 1
THRESHOLD = 0.3  # around .5
ELASTIC = 2.0  # standard deviation of a control point's displacement, in pixels of 32
STEEPNESS = 12.0  # of the soft threshold


def make_copies(
    pixels: Pixels,
    first: int,
    last: int,
    strength: float,
    purpose: Purpose,
    threads: int | None = None,
    *,
    numbers: Integers | None = None,
    on_copy: Callable[[], None] | None = None,
) -> Pixels:
    """Make the copies `first` to `last` - 1 of each image.

    Args:
        pixels: The images (N × 8 × 8 or N × 64, 0–16).
        first: The first copy's number, from 0.
        last: The number after the last copy's.
        strength: Scales every range: 0.25 to 2 in steps of .25; 1 is the one whose figures were measured.
        purpose: `AUGMENTATION` or `SHIFT`: their random numbers are independent.
        threads: Of the CPU; None: one a core.
        numbers: Each image's number in its dataset (N), on which its random numbers depend; None: 0 … N - 1.
        on_copy: Called after each copy of all images, by the thread that made it.

    Returns:
        The copies, (last - first) × N × 64, 0–16.
    """
    images = pixels.reshape(-1, NUM_PIXELS)
    numbers = np.arange(len(images)) if numbers is None else np.asarray(numbers)
    numbers, copies, quarters = numbers.astype(np.int64), range(first, last), round(4 * strength)
    on_copy = on_copy or _do_nothing
    try:
        from workers.training.engines.warping import warp_copies
    except ImportError:  # Numba is not installed
        return _make_plainly(images, numbers, copies, quarters, purpose, on_copy)
    return warp_copies(enlarge(images), numbers, copies, quarters, int(purpose), threads, on_copy)


def _do_nothing() -> None:
    pass


def enlarge(images: Pixels) -> Floats:
    """Enlarge images (N × 64, 0–16) to values of 0–1 with a border of zeros: N × E × E, float32."""
    wanted = (images.reshape(-1, SMALL, SMALL) / MAX_PIXEL).astype(np.float32)
    up = bicubic(SMALL, SIDE).astype(np.float32)  # S × 8
    enlarged = np.clip(up @ wanted @ up.T, 0, 1)
    block_means = np.kron(np.eye(SMALL), np.full(FACTOR, 1 / FACTOR)).astype(np.float32)  # 8 × S
    for _ in range(NUM_ROUNDS):
        enlarged += up @ (wanted - block_means @ (enlarged @ block_means.T)) @ up.T
        np.clip(enlarged, 0, 1, out=enlarged)
    return np.pad(enlarged, ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))


def bicubic(inputs: int, outputs: int, *, align_corners: bool = False) -> Floats:
    """The matrix (outputs × inputs) of `torch.nn.functional.interpolate`, bicubic, on a line.

    Cubic convolution: R. G. Keys, IEEE Transactions on Acoustics, Speech, and Signal Processing 29, 1981. Beyond the
    ends, the outermost value is repeated.
    """
    matrix = np.zeros((outputs, inputs))
    for output in range(outputs):
        place = (output + 0.5) * inputs / outputs - 0.5
        if align_corners:
            place = output * (inputs - 1) / (outputs - 1)
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            matrix[output, min(max(tap, 0), inputs - 1)] += _cubic(abs(place - tap))
    return matrix


def _cubic(distance: float) -> float:
    """Keys' kernel at a distance of 0 to 2."""
    a, x = BICUBIC, distance
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def spread_matrix() -> Floats:
    """How much each of a line's 3 control points moves each of its 32 pixels: 3 × S, float32.

    The outer points lie on the outermost pixels (`align_corners=True`). With points 10.7 instead of 15.5 pixels apart,
    copies bend too sharply: .9975 instead of .9995 of val's images were right, in the mean of 8 seeds.
    """
    return np.ascontiguousarray(bicubic(3, SIDE, align_corners=True).T, np.float32)


def draw(numbers: Integers, copy: int, purpose: Purpose, quarters: int) -> tuple[Floats, Floats]:
    """Draw one copy's random numbers for the images with these numbers (N).

    Block b of four 32-bit words is Philox with the counter (image, copy, purpose, b) and the key (`BANK_SEED`, four
    times the strength). A word w stands for u = (w + .5) / 2^32. Words 0 to 6 are the uniform numbers, of rotation, log
    width, log height, shear, the shifts in x and y, and the threshold. Words 8 + 2p and 9 + 2p are those of control
    point p, row by row: √(-2 ln u)·cos 2πv displaces it in x, √(-2 ln u)·sin 2πv in y (G. E. P. Box and M. E. Muller,
    Annals of Mathematical Statistics 29, 1958). Words 7, 26 and 27 are not used.

    Returns:
        The uniform numbers, 8 × N, and the normal ones, 2 × 9 × N.
    """
    blocks = np.arange(NUM_BLOCKS)[:, None]
    words = np.stack(philox(numbers[None], copy, int(purpose), blocks, BANK_SEED, quarters), axis=1)  # 7 × 4 × N
    uniforms = (words.reshape(4 * NUM_BLOCKS, -1) + 0.5) / WORD
    pairs = uniforms[NUM_UNIFORMS : NUM_UNIFORMS + 2 * NUM_POINTS].reshape(NUM_POINTS, 2, -1)
    radii, angles = np.sqrt(-2 * np.log(pairs[:, 0])), 2 * math.pi * pairs[:, 1]
    return uniforms[:NUM_UNIFORMS], np.stack([radii * np.cos(angles), radii * np.sin(angles)])


def affine_map(strength: float, rotation: Any, width: Any, height: Any, shear: Any, x: Any, y: Any) -> Any:
    """The affine map from a pixel of the copy to one of the enlarged image, of numbers or of arrays of them.

    In coordinates of -1 … 1 it is [[cos r/ax, (-sin r + s·cos r)/ay, tx], [sin r/ax, (cos r + s·sin r)/ay, ty]].

    Args:
        strength: Scales every range.
        rotation: r, as a uniform number of 0–1, like the others.
        width: ln ax.
        height: ln ay.
        shear: s.
        x: tx.
        y: ty.

    Returns:
        For the source's column, then for its row: the factors of column and row, and the constant, in pixels of 32.
    """
    angle = strength * ROTATION * (2 * rotation - 1)
    across, down = np.exp(strength * LOG_WIDTH * (2 * width - 1)), np.exp(strength * LOG_HEIGHT * (2 * height - 1))
    slant = strength * SHEAR * (2 * shear - 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    a, b = cosine / across, (slant * cosine - sine) / down
    c, d = sine / across, (cosine + slant * sine) / down
    # Pixel p of 32 lies at (2p + 1) / 32 - 1, as in `grid_sample` with `align_corners=False`.
    centre = SIDE / 2 - 0.5
    to_x = centre + SIDE / 2 * strength * SHIFT_X * (2 * x - 1) - centre * (a + b)
    to_y = centre + SIDE / 2 * strength * SHIFT_Y * (2 * y - 1) - centre * (c + d)
    return a, b, to_x, c, d, to_y


def soft_threshold(uniform: Any, strength: float) -> Any:
    """Where a copy's soft threshold is .5: uniform in .5 ± .3 · strength, at most ± .3.

    Beyond, it would fill the background or delete the digit.
    """
    return 0.5 + min(strength, 1.0) * THRESHOLD * (2 * uniform - 1)


def _make_plainly(
    images: Pixels, numbers: Integers, copies: range, quarters: int, purpose: Purpose, on_copy: Callable[[], None]
) -> Pixels:
    """`make_copies` in numpy, some thirty times slower than compiled code."""
    enlarged, spread, strength = enlarge(images), spread_matrix(), quarters / 4
    places = np.arange(SIDE)
    block = np.arange(len(images))[:, None, None]
    out = np.empty((len(copies), len(images), NUM_PIXELS), np.uint8)
    for number, copy in enumerate(copies):
        uniforms, normals = draw(numbers, copy, purpose, quarters)
        a, b, to_x, c, d, to_y = (each[:, None, None] for each in affine_map(strength, *uniforms[:6]))
        points = (strength * ELASTIC * normals).transpose(0, 2, 1).reshape(2, -1, 3, 3)
        moved_x, moved_y = spread.T @ points @ spread  # N × S × S each
        x = np.clip(a * places + b * places[:, None] + to_x + moved_x, -1, SIDE)
        y = np.clip(c * places + d * places[:, None] + to_y + moved_y, -1, SIDE)
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        dx, dy = x - left, y - top
        row, column = top + BORDER, left + BORDER
        upper = enlarged[block, row, column] * (1 - dx) + enlarged[block, row, column + 1] * dx
        lower = enlarged[block, row + 1, column] * (1 - dx) + enlarged[block, row + 1, column + 1] * dx
        value = upper * (1 - dy) + lower * dy
        inked = 1 / (1 + np.exp(STEEPNESS * (soft_threshold(uniforms[6], strength)[:, None, None] - value)))
        sums = inked.reshape(-1, SMALL, FACTOR, SMALL, FACTOR).sum(axis=(2, 4))  # 0–16: the means times 16
        out[number] = np.rint(sums).astype(np.uint8).reshape(-1, NUM_PIXELS)
        on_copy()
    return out
