"""Reads how a camera was held (Exif's orientation), and nothing else of Exif. What cannot be read is no orientation."""

from __future__ import annotations

import struct

UPRIGHT = 1
_TAG = 0x0112
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def find_orientation(exif: bytes) -> int:
    """Return Exif's orientation, 1 to 8; 1 if there is none, or none that can be read.

    Args:
        exif: A TIFF structure, with or without the `Exif` that JPEG puts before it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for number in range(num_entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * number)
            if tag == _TAG:
                return value if kind == 3 and UPRIGHT <= value <= 8 else UPRIGHT
    except struct.error:  # it points outside the data
        pass
    return UPRIGHT
