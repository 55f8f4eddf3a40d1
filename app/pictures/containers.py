"""Reads the headers of PNG, JPEG, WEBP, BMP and GIF files: how large is the picture, and what does its decoder need?

Nothing is decoded here, so that a request is refused before it costs anything. Of PNG, JPEG and GIF only those parts
are handed on to the decoder that the first picture is made of: texts and colour profiles that unpack to many megabytes,
long comments, Exif structures that refer to themselves, and later frames are left out.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from app.pictures.orientation import UPRIGHT, find_orientation

MAX_SIDE = 65_535  # pixels
MAX_PARTS = 100_000  # chunks, segments and blocks of a file
# Of a run-length encoded BMP, which Pillow decodes in Python: a megabyte takes half a second, of any pixels.
MAX_RUN_LENGTH_PIXELS, MAX_RUN_LENGTH_BYTES = 4_000_000, 1_000_000
MAX_SCANS = 64  # of a progressive JPEG: each goes over the whole picture, and encoders write about 10

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_NEXT_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)


class Unreadable(Exception):
    """A file is no picture that can be read; the message ends the sentence `The picture …`."""


@dataclass(frozen=True)
class Container:
    """What a file's header says, and the bytes that its decoder needs."""

    kind: str  # as Pillow calls it
    width: int
    height: int
    bytes_per_pixel: float  # memory that decoding takes at its peak
    data: bytes
    orientation: int = UPRIGHT


def read_container(data: bytes) -> Container:
    """Read the header of a file.

    Raises:
        Unreadable: The file is empty, of another kind, cut off, or contradicts itself.
    """
    if not data:
        raise Unreadable("is empty")
    for signature, read in _READERS:
        if signature.match(data):
            try:
                container = read(data)
            except (struct.error, IndexError):
                raise Unreadable("is cut off") from None
            if not (0 < container.width <= MAX_SIDE and 0 < container.height <= MAX_SIDE):
                raise Unreadable(
                    f"is {container.width:,} × {container.height:,} pixels; a side is 1 to {MAX_SIDE:,} pixels long"
                )
            return container
    raise Unreadable("is not a PNG, JPEG, WEBP, BMP or GIF file")


def _read_png(data: bytes) -> Container:
    """Read a PNG's size, and keep the chunks of its still picture (PNG specification, 3rd edition, 5)."""
    kept, exif, place = [PNG_SIGNATURE], b"", len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise Unreadable("is cut off")
        if name in _PNG_CHUNKS:
            kept.append(data[place:end])
        elif name == b"eXIf":
            exif = data[place + 8 : end - 4]
        if name == b"IEND":
            break
        place = end
    else:
        raise Unreadable("has too many parts")
    if kept[1][4:8] != b"IHDR" or len(kept[1]) != 25 or sum(each[4:8] == b"IHDR" for each in kept[1:]) != 1:
        raise Unreadable("has no header")
    width, height = struct.unpack_from(">II", data, 16)
    return Container("PNG", width, height, 4, b"".join(kept), find_orientation(exif))


def _read_jpeg(data: bytes) -> Container:
    """Read a JPEG's size, and keep the segments that its first picture is made of (ITU T.81, annex B)."""
    kept, exif, frame, place = [b"\xff\xd8"], b"", None, 2
    for _ in range(MAX_PARTS):
        while data[place : place + 2] == b"\xff\xff":  # fill bytes
            place += 1
        marker = data[place + 1]
        if data[place] != 0xFF or marker == 0xD9:
            raise Unreadable("is damaged")
        if marker in _JPEG_WITHOUT_LENGTH:
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        segment = data[place : place + 2 + length]
        place += 2 + length
        if marker in _JPEG_FRAMES:
            if frame is not None:
                raise Unreadable("has several frames")
            frame = marker, *struct.unpack_from(">HHB", segment, 5)
        if marker == 0xE1 and segment[4:10] == b"Exif\0\0":
            exif = exif or segment[4:]
        if marker not in range(0xE0, 0xF0) or (marker == 0xEE and segment[4:9] == b"Adobe"):
            kept.append(segment if marker != 0xFE else b"")
        if marker == 0xDA:
            break
    else:
        raise Unreadable("has too many parts")
    if frame is None:
        raise Unreadable("has no header")
    marker, height, width, num_components = frame
    scans, num_scans = _jpeg_scans(data, place)
    if num_scans > MAX_SCANS:
        raise Unreadable(f"has {num_scans:,} scans; a JPEG may have {MAX_SCANS}")
    # A progressive picture's coefficients are all held at once, 2 bytes each; otherwise a few rows are.
    bytes_per_pixel = 2.0 * num_components + 1 if marker in _JPEG_PROGRESSIVE or num_scans > 1 else 4.0
    return Container("JPEG", width, height, bytes_per_pixel, b"".join(kept) + scans, find_orientation(exif))


def _jpeg_scans(data: bytes, start: int) -> tuple[bytes, int]:
    """Return the rest of a JPEG from its first scan's data to the end of its picture, and the number of its scans."""
    num_scans = 1
    for number, found in enumerate(_NEXT_JPEG_MARKER.finditer(data, start)):
        marker = data[found.start() + 1]
        if marker == 0xD9:
            return data[start : found.end()], num_scans
        num_scans += marker == 0xDA
        if marker in _JPEG_FRAMES or number >= MAX_PARTS:
            raise Unreadable("is damaged")
    return data[start:], num_scans  # its end is missing: the decoder decides whether the picture is whole


def _read_gif(data: bytes) -> Container:
    """Read a GIF's size, and keep its first frame (GIF89a, appendix B)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + _gif_colors(flags)
    header, control = data[:place], b""
    for _ in range(MAX_PARTS):
        start, kind = place, data[place]
        if kind == 0x21:  # an extension
            place = _skip_gif_blocks(data, place + 2)
            if data[start + 1] == 0xF9:  # graphic control: which colour is transparent
                control = data[start:place]
        elif kind == 0x2C:  # a frame
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, place + 1)
            place = _skip_gif_blocks(data, place + 11 + _gif_colors(flags))
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            return Container("GIF", width, height, 4, b"".join((header, control, data[start:place], b";")))
        else:
            raise Unreadable("has no picture")
    raise Unreadable("has too many parts")


def _gif_colors(flags: int) -> int:
    """Return the bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_blocks(data: bytes, place: int) -> int:
    """Return the place after a chain of blocks; a chain that is cut off ends with the data."""
    for _ in range(MAX_PARTS):
        if place >= len(data) or not data[place]:
            return place + 1
        place += 1 + data[place]
    raise Unreadable("has too many parts")


def _read_bmp(data: bytes) -> Container:
    """Read a BMP's size."""
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Container("BMP", width, height, 4, data)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (1, 2) and width * abs(height) > MAX_RUN_LENGTH_PIXELS:
        raise Unreadable(f"is run-length encoded and has more than {MAX_RUN_LENGTH_PIXELS:,} pixels")
    if compression in (1, 2) and len(data) > MAX_RUN_LENGTH_BYTES:
        raise Unreadable(f"is run-length encoded and has more than {MAX_RUN_LENGTH_BYTES:,} bytes")
    return Container("BMP", width, abs(height), 4, data)


def _read_webp(data: bytes) -> Container:
    """Read a WEBP's size (RFC 9649); Pillow holds two canvases, the picture and a copy of it: 16 bytes a pixel."""
    name, start = data[12:16], 20
    if name == b"VP8X":
        width, height = (1 + int.from_bytes(data[start + at : start + at + 3], "little") for at in (4, 7))
    elif name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, start + 1)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif name == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, start + 6))
    else:
        raise Unreadable("has no header")
    return Container("WEBP", width, height, 16, data, find_orientation(_find_webp_exif(data)))


def _find_webp_exif(data: bytes) -> bytes:
    place = 12
    for _ in range(MAX_PARTS):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name == b"EXIF" or len(name) < 4:
            return data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    raise Unreadable("has too many parts")


_READERS: list[tuple[re.Pattern[bytes], Callable[[bytes], Container]]] = [
    (re.compile(re.escape(PNG_SIGNATURE)), _read_png),
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _read_webp),
    (re.compile(rb"BM"), _read_bmp),
]
