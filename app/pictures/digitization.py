"""From a request's pictures and strokes to pixels, a slice of time at a time. Pillow is loaded with this module."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.errors import FieldError, TooLarge
from app.http.negotiation import JSON
from app.pictures.bodies import Drawings, read_file, read_json, read_multipart
from app.pictures.containers import Container, Unreadable, read_container
from app.pictures.decoding import decode
from app.pictures.ink import find_ink
from app.pictures.normalization import BLANK, Digit, Normalized, normalize
from app.pictures.schemas import MULTIPART
from app.pictures.strokes import draw
from app.validation import wrong_place

MAX_PIXELS = 32_000_000  # of all pictures of a request
MAX_DECODING_BYTES = 134_000_000  # memory that the decoder of one picture may take


class Digitized(NamedTuple):
    """What N pictures or strokes became."""

    pixels: Digit  # N × 64, 0 to 16
    are_shaped: npt.NDArray[np.bool_]  # N, see `normalization.Normalized`


class Digitization:
    """The pictures of one request on their way to pixels.

    Args:
        media_type: Of the body.
        content_type: The whole header, which has a multipart body's boundary.
        body: The bytes that the client sent.

    Raises:
        MalformedBody: The body is not JSON, or not multipart.
        InvalidInput: A picture is not one that can be read.
        TooLarge: The pictures have too many pixels.
    """

    def __init__(self, media_type: str, content_type: bytes, body: bytes) -> None:
        self._drawings = _read(media_type, content_type, body)
        self._done: list[Normalized] = []
        self._check_sizes()

    @property
    def is_finished(self) -> bool:
        return len(self._done) == max(len(self._drawings.files), len(self._drawings.strokes))

    @property
    def result(self) -> Digitized:
        pixels, are_shaped = zip(*self._done, strict=True)
        return Digitized(np.stack(pixels), np.array(are_shaped))

    def go_on(self, seconds: float) -> None:
        """Process pictures until the time is over, at least one.

        Raises:
            InvalidInput: A picture is damaged.
        """
        end = time.monotonic() + seconds
        while not self.is_finished:
            number = len(self._done)
            self._done.append(self._digitize(number))
            if time.monotonic() >= end:
                break

    def _digitize(self, number: int) -> Normalized:
        if self._drawings.strokes:
            return normalize(draw(self._drawings.strokes[number]))
        file = self._drawings.files[number]
        try:
            return digitize(read_container(file))
        except Unreadable as error:
            raise wrong_place(self._drawings.pointer(number), f"The picture {error}") from error

    def _check_sizes(self) -> None:
        """Read all headers before anything is decoded."""
        num_pixels = 0
        for number, file in enumerate(self._drawings.files):
            pointer = self._drawings.pointer(number)
            try:
                container = read_container(file)
            except Unreadable as error:
                raise wrong_place(pointer, f"The picture {error}") from error
            num_pixels += container.width * container.height
            _check_size(pointer, container, num_pixels)


def digitize(container: Container) -> Normalized:
    """Make the 64 pixels of the digit in a file.

    Raises:
        Unreadable: The file is cut off or damaged.
    """
    found = find_ink(decode(container))
    return BLANK if found is None else normalize(*found)


def _check_size(pointer: str, container: Container, num_pixels: int) -> None:
    shape = f"{container.width:,} × {container.height:,} pixels"
    if num_pixels > MAX_PIXELS:
        raise _too_large(pointer, f"With this picture of {shape}, the request has more than {MAX_PIXELS:,} pixels")
    num_bytes = container.bytes_per_pixel * container.width * container.height
    if num_bytes > MAX_DECODING_BYTES:
        raise _too_large(
            pointer,
            f"To decode this {container.kind} of {shape} takes about {num_bytes / 1e6:,.0f} MB of memory, and "
            f"{MAX_DECODING_BYTES / 1e6:,.0f} MB is the limit",
        )


def _too_large(pointer: str, detail: str) -> TooLarge:
    return TooLarge(f"{pointer}: {detail}", errors=[FieldError(pointer, detail)])


def _read(media_type: str, content_type: bytes, body: bytes) -> Drawings:
    if media_type == JSON:
        return read_json(body)
    if media_type == MULTIPART:
        return read_multipart(body, content_type)
    return read_file(body)
