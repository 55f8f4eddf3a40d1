"""Pictures for tests: a drawn digit in every kind of file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw


def seven(side: int = 280, ink: int = 0, paper: int = 255, mode: str = "L") -> Image.Image:
    """Draw a 7 that leaves a fifth of the picture free on each side."""
    image = Image.new("L", (side, side), paper)
    corners = [(side * 0.3, side * 0.2), (side * 0.7, side * 0.2), (side * 0.45, side * 0.8)]
    ImageDraw.Draw(image).line(corners, fill=ink, width=max(1, side // 14))
    return image.convert(mode)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a PNG's chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def flat_png(width: int, height: int, before: bytes = b"", data: bytes | None = None) -> bytes:
    """Return a white grey PNG, which is tiny; `before` are chunks before its data."""
    if data is None:
        packer = zlib.compressobj(9)
        row = b"\0" + b"\xff" * width
        data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def photo_of(image: Image.Image, seed: int) -> bytes:
    """Return a JPEG of a dark drawing on white, as a camera sees it: grain, uneven light and the edge of a shadow."""
    random = np.random.default_rng(seed)
    paper = 0.85 + 0.03 * random.standard_normal(image.size[::-1])
    y, x = np.mgrid[0 : image.height, 0 : image.width] / image.width
    light = (1 - 0.3 * x) * (1 - 0.4 / (1 + np.exp(-(x + 0.5 * y - 0.7) / 0.02)))
    grey = paper * light * (1 - 0.7 * (1 - np.asarray(image) / 255))
    return encode(Image.fromarray((255 * np.clip(grey, 0, 1)).astype(np.uint8)), "JPEG")
