"""Augmentation: copies follow plain torch, and each depends on its image, number and strength alone."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from workers.training import augmentation
from workers.training.augmentation import Pixels, make_copies
from workers.training.data import load_dataset
from workers.training.randomness import Purpose

NUM_IMAGES = 60
PIXELS = load_dataset("digits")[0][:NUM_IMAGES]


def _warp_with_torch(pixels: Pixels, copy: int, strength: float, purpose: Purpose) -> Pixels:
    """One copy of each image (N × 64), by torch's own operations in float64 from the same random numbers."""
    images = torch.from_numpy(pixels / 16.0).view(-1, 1, 8, 8)
    enlarged = functional.interpolate(images, size=(32, 32), mode="bicubic", align_corners=False).clamp(0, 1)
    for _ in range(15):
        error = images - functional.avg_pool2d(enlarged, 4)
        enlarged = enlarged + functional.interpolate(error, size=(32, 32), mode="bicubic", align_corners=False)
        enlarged = enlarged.clamp(0, 1)
    uniforms, normals = augmentation.draw(np.arange(len(pixels)), copy, purpose, round(4 * strength))
    centred = torch.from_numpy(2 * uniforms - 1)
    r = math.radians(12) * strength * centred[0]
    ax, ay = torch.exp(0.2 * strength * centred[1]), torch.exp(0.12 * strength * centred[2])
    s, tx, ty = 0.4 * strength * centred[3], 0.12 * strength * centred[4], 0.08 * strength * centred[5]
    t = 0.5 + 0.3 * min(strength, 1) * centred[6]
    first = torch.stack([r.cos() / ax, (-r.sin() + s * r.cos()) / ay, tx], dim=1)
    second = torch.stack([r.sin() / ax, (r.cos() + s * r.sin()) / ay, ty], dim=1)
    grid = functional.affine_grid(torch.stack([first, second], dim=1), [len(pixels), 1, 32, 32], align_corners=False)
    points = torch.from_numpy(normals).transpose(0, 2).transpose(1, 2).reshape(-1, 2, 3, 3)
    moved = functional.interpolate(points, size=(32, 32), mode="bicubic", align_corners=True)
    grid = grid + 2 * strength * moved.movedim(1, 3) * (2 / 32)  # pixels of 32, where the image spans -1 … 1
    warped = functional.grid_sample(enlarged, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    inked = torch.sigmoid(12 * (warped - t[:, None, None, None]))
    return (16 * functional.avg_pool2d(inked, 4)).round().to(torch.uint8).view(-1, 64).numpy()


@pytest.mark.parametrize("strength", [0.25, 1.0, 2.0])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_copies_are_those_of_plain_torch(strength: float, is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_compiled:  # as on a machine without Numba
        monkeypatch.setitem(sys.modules, "workers.training.engines.warping", None)
    copies = make_copies(PIXELS, 3, 6, strength, Purpose.AUGMENTATION)
    assert copies.shape == (3, NUM_IMAGES, 64)
    assert copies.dtype == np.uint8
    expected = np.stack([_warp_with_torch(PIXELS, copy, strength, Purpose.AUGMENTATION) for copy in (3, 4, 5)])
    differences = np.abs(copies.astype(int) - expected)
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.0005
    assert copies.max() == 16
    assert (copies != PIXELS.reshape(-1, 64)).mean() > 0.2


def test_an_enlarged_image_has_the_blocks_of_its_image() -> None:
    enlarged = augmentation.enlarge(PIXELS.reshape(-1, 64))
    assert enlarged.shape == (NUM_IMAGES, 36, 36)
    assert enlarged[:, [0, 1, -2, -1]].max() == enlarged[:, :, [0, 1, -2, -1]].max() == 0
    means = enlarged[:, 2:-2, 2:-2].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    differences = np.abs(means * 16 - PIXELS)
    assert differences.max() < 1  # clipping leaves a little beside dark edges
    assert differences.mean() < 0.1


def test_a_copy_depends_on_image_number_strength_and_purpose_alone() -> None:
    copies = make_copies(PIXELS, 0, 6, 1.0, Purpose.AUGMENTATION, threads=2)
    assert np.array_equal(make_copies(PIXELS, 0, 4, 1.0, Purpose.AUGMENTATION, threads=1), copies[:4])  # a prefix
    assert np.array_equal(make_copies(PIXELS.reshape(-1, 64), 4, 6, 1.0, Purpose.AUGMENTATION), copies[4:])
    some = np.array([40, 7, 21], np.int32)
    assert np.array_equal(make_copies(PIXELS[some], 0, 6, 1.0, Purpose.AUGMENTATION, numbers=some), copies[:, some])
    others = [
        make_copies(PIXELS, 0, 6, 1.25, Purpose.AUGMENTATION),
        make_copies(PIXELS, 0, 6, 1.0, Purpose.SHIFT),
        make_copies(PIXELS, 6, 12, 1.0, Purpose.AUGMENTATION),
        make_copies(PIXELS, 0, 6, 1.0, Purpose.AUGMENTATION, numbers=np.arange(NUM_IMAGES) + 1),
    ]
    for other in others:
        assert (other != copies).mean() > 0.2
    assert make_copies(PIXELS, 5, 5, 1.0, Purpose.AUGMENTATION).shape == (0, NUM_IMAGES, 64)


def test_random_numbers_are_spread_as_stated() -> None:
    uniforms, normals = augmentation.draw(np.arange(20_000), 3, Purpose.AUGMENTATION, 4)
    assert np.allclose(uniforms[:7].mean(axis=1), 0.5, atol=0.01)
    assert np.allclose(uniforms[:7].std(axis=1), 12**-0.5, atol=0.01)
    assert np.allclose(normals.mean(axis=2), 0, atol=0.03)
    assert np.allclose(normals.std(axis=2), 1, atol=0.03)
    together = np.corrcoef(np.concatenate([uniforms[:7], normals.reshape(18, -1)]))
    assert np.abs(together - np.eye(25)).max() < 0.04
