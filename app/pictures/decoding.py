"""Decodes a picture into grey, small enough to compute with: Pillow's decoders alone, one strip of rows at a time.

Pillow's classes are called directly: `Image.open` would load all its plugins, and some of those run other programs.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from app.pictures.containers import Container, Unreadable
from app.pictures.orientation import UPRIGHT

Grey = npt.NDArray[np.uint8]

MAX_SIDE = 1024  # pixels; larger pictures are reduced to this
STRIP_PIXELS = 2**17  # pixels that are converted at once
BLOCK_BYTES = 2**26  # larger than what the C library keeps for later: memory of a large picture goes back to the system
MIN_RANGE_16_BITS = 4096  # smallest full scale of 16 bit pixels; cameras and scanners often use 12 of the 16 bits
MIN_LUMA_SHARE = 0.5  # contrast of the luma, of the best channel's, below which that channel stands for it

Image.core.set_block_size(BLOCK_BYTES)  # type: ignore[attr-defined]
_DECODERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
}
# What Pillow's decoders raise for files that are cut off or damaged.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError, struct.error, zlib.error)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(container: Container) -> Grey:
    """Decode a picture's first frame, over white, the right way up.

    Args:
        container: Its file; the caller has checked the number of its pixels.

    Returns:
        Grey, H × W, uint8, 0 (black) to 255; its longer side is at most `MAX_SIDE`.

    Raises:
        Unreadable: The file is cut off or damaged.
    """
    try:
        image = _load(container)
        reduced = _reduce(image, -(-max(image.size) // MAX_SIDE))
    except _DAMAGED as error:
        raise Unreadable("is cut off or damaged") from error
    if container.orientation != UPRIGHT:
        reduced = reduced.transpose(_TURNS[container.orientation])
    return np.asarray(_to_grey(reduced))


def _load(container: Container) -> Image.Image:
    image = _DECODERS[container.kind](BytesIO(container.data))
    if image.size != (container.width, container.height):
        raise Unreadable("is damaged: it has two sizes")
    if isinstance(image, JpegImageFile):
        factor = -(-max(image.size) // MAX_SIDE)
        image.draft(None, (-(-image.width // factor), -(-image.height // factor)))
    image.load()
    return image


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Return a picture over white, `factor` times as small, as L or RGB."""
    full_scale = _full_scale(image)
    size = -(-image.width // factor), -(-image.height // factor)
    reduced: Image.Image | None = None
    for top, strip in _strips(image, factor):
        opaque = _flatten(strip, full_scale)
        if reduced is None:
            reduced = Image.new(opaque.mode, size)
        reduced.paste(opaque.reduce(factor) if factor > 1 else opaque, (0, top // factor))
    assert reduced is not None
    return reduced


def _strips(image: Image.Image, factor: int) -> Iterator[tuple[int, Image.Image]]:
    num_rows = max(1, STRIP_PIXELS // image.width // factor) * factor
    if num_rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, num_rows):
        yield top, image.crop((0, top, image.width, min(top + num_rows, image.height)))


def _full_scale(image: Image.Image) -> float:
    """Return which value is white, for pixels of more than 8 bits."""
    if not image.mode.startswith(("I", "F")):
        return 255.0
    highest = float(np.max(image.getextrema()))
    return max(highest, MIN_RANGE_16_BITS) if image.mode.startswith("I") else highest or 1.0


def _flatten(image: Image.Image, full_scale: float) -> Image.Image:
    """Return a picture as L or RGB, what is transparent over white."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        grey = np.clip(values * (255.0 / full_scale), 0, 255)
        key = image.info.get("transparency")
        return Image.fromarray((np.where(values == key, 255, grey) if isinstance(key, int) else grey).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        picture = image.convert("RGBA")
        opaque = Image.new("RGB", picture.size, "white")
        opaque.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
        return opaque
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _to_grey(image: Image.Image) -> Image.Image:
    """Return the luma (ITU-R 601), or the channel with the most contrast where the luma has little."""
    if image.mode == "L":
        return image
    luma = image.convert("L")
    channels = image.split()
    contrasts = [high - low for low, high in (channel.getextrema() for channel in (luma, *channels))]  # type: ignore[operator]
    best = max(contrasts)
    return luma if contrasts[0] >= MIN_LUMA_SHARE * best else channels[contrasts.index(best) - 1]
