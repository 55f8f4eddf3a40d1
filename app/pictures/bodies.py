"""Reads a request's pictures and strokes, and says exactly which one is wrong. No picture is decoded here."""

from __future__ import annotations

import math
import re
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedBody
from app.http.json_bodies import parse_leniently
from app.pictures.schemas import (
    MAX_COORDINATE,
    MAX_PICTURES,
    MAX_POINTS,
    MAX_POINTS_OF_REQUEST,
    MAX_STROKES,
)
from app.pictures.strokes import Points
from app.validation import write_pointer, wrong_place
from app.wording import as_json, name_value

_DATA_URL = re.compile(r"data:[^,]{0,200},", re.IGNORECASE)
_SPACES = re.compile(r"\s+")


@dataclass
class Drawings:
    """The pictures of a request, in order: files, or strokes; and what an error calls each place."""

    files: list[bytes] = field(default_factory=list)
    strokes: list[list[Points]] = field(default_factory=list)
    pointer: Callable[[int], str] = lambda number: f"#/{number}"


def read_json(body: bytes) -> Drawings:
    """Read `{"pictures": [base64 or data: URL, …]}` or `{"strokes": [[[[x, y], …], …], …]}`.

    Raises:
        MalformedBody: The body is not JSON.
        InvalidInput: The document is not valid; the error names the first wrong place.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = parse_leniently(body)  # accepts NaN and Infinity: the place can be named
    if not isinstance(document, dict):
        raise wrong_place("#", f"Send an object with the field `pictures` or `strokes`; got {name_value(document)}")
    for name in document:
        if name not in ("pictures", "strokes"):
            raise wrong_place(f"#{write_pointer([name])}", "There is no such field; send `pictures` or `strokes` alone")
    if len(document) != 1:
        raise wrong_place("#", "Send one field, `pictures` or `strokes`")
    ((name, images),) = document.items()
    if not isinstance(images, list):
        raise wrong_place(f"#/{name}", f"`{name}` is an array; got {name_value(images)}")
    _check_number(f"#/{name}", len(images), "pictures" if name == "pictures" else "digits")
    if name == "pictures":
        files = [_read_base64(f"#/pictures/{number}", text) for number, text in enumerate(images)]
        return Drawings(files=files, pointer=lambda number: f"#/pictures/{number}")
    return Drawings(strokes=_read_strokes(images), pointer=lambda number: f"#/strokes/{number}")


def read_file(body: bytes) -> Drawings:
    """Take the whole body as one file."""
    return Drawings(files=[body], pointer=lambda _: "#")


def read_multipart(body: bytes, content_type: bytes) -> Drawings:
    """Read the parts of a `multipart/form-data` body (RFC 7578), each of them a file, whatever its name.

    Raises:
        MalformedBody: The body is not what its boundary says.
        InvalidInput: There are no parts, or too many.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedBody("The body's Content-Type names no boundary.", slug="malformed-body")
    parts: list[bytearray] = []
    has_ended = False

    def begin() -> None:
        if len(parts) == MAX_PICTURES:
            raise wrong_place("#", f"At most {MAX_PICTURES} pictures a request")
        parts.append(bytearray())

    def end() -> None:
        nonlocal has_ended
        has_ended = True

    def take(data: bytes, start: int, stop: int) -> None:
        parts[-1].extend(memoryview(data)[start:stop])

    try:
        parser = MultipartParser(boundary, {"on_part_begin": begin, "on_part_data": take, "on_end": end})
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody(
            f"The body is not multipart/form-data: {str(error).rstrip('.')}.", slug="malformed-body"
        ) from None
    if not has_ended and parts:
        raise MalformedBody("The body is not multipart/form-data: its end is missing.", slug="malformed-body")
    _check_number("#", len(parts))
    return Drawings(files=[bytes(part) for part in parts])


def _check_number(pointer: str, number: int, what: str = "pictures") -> None:
    if not 1 <= number <= MAX_PICTURES:
        raise wrong_place(pointer, f"1 to {MAX_PICTURES} {what} a request; got {number:,}")


def _read_base64(pointer: str, text: Any) -> bytes:
    """Decode a text of base64 (also its variant for URLs) or a `data:` URL (RFC 2397)."""
    if not isinstance(text, str):
        raise wrong_place(pointer, f"A picture is a text, base64 or a data: URL; got {name_value(text)}")
    try:
        if url := _DATA_URL.match(text):
            text = text[url.end() :]
            if not url[0][:-1].lower().endswith(";base64"):
                return unquote_to_bytes(text)
            text = unquote_to_bytes(text).decode("latin-1") if "%" in text else text
        text = _SPACES.sub("", text).translate({ord("-"): "+", ord("_"): "/"})
        return a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except (NotBase64, ValueError):  # a ValueError too: half a surrogate pair, which is no text
        raise wrong_place(pointer, "The text is neither base64 nor a data: URL") from None


def _read_strokes(images: list[Any]) -> list[list[Points]]:
    read, num_points = [], 0
    for number, image in enumerate(images):
        strokes = list(_read_image(f"#/strokes/{number}", image))
        num_points += sum(map(len, strokes))
        if num_points > MAX_POINTS_OF_REQUEST:
            raise wrong_place(f"#/strokes/{number}", f"At most {MAX_POINTS_OF_REQUEST:,} points a request")
        read.append(strokes)
    return read


def _read_image(pointer: str, image: Any) -> Iterator[Points]:
    if not isinstance(image, list):
        raise wrong_place(pointer, f"A digit is an array of strokes; got {name_value(image)}")
    if len(image) > MAX_STROKES:
        raise wrong_place(pointer, f"A digit has at most {MAX_STROKES:,} strokes; got {len(image):,}")
    num_points = 0
    for number, stroke in enumerate(image):
        place = f"{pointer}/{number}"
        if not isinstance(stroke, list):
            raise wrong_place(place, f"A stroke is an array of points; got {name_value(stroke)}")
        num_points += len(stroke)
        if num_points > MAX_POINTS:
            raise wrong_place(place, f"A digit has at most {MAX_POINTS:,} points")
        yield _read_points(place, stroke)


def _read_points(pointer: str, stroke: list[Any]) -> Points:
    for number, point in enumerate(stroke):
        if not isinstance(point, list) or len(point) != 2:
            raise wrong_place(f"{pointer}/{number}", f"A point is an array of x and y; got {name_value(point)}")
        for axis, value in enumerate(point):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise wrong_place(f"{pointer}/{number}/{axis}", f"A coordinate is a number; got {name_value(value)}")
            if not -MAX_COORDINATE <= value <= MAX_COORDINATE:  # refuses NaN too
                got = as_json(value) if isinstance(value, float) and not math.isfinite(value) else "a larger number"
                raise wrong_place(
                    f"{pointer}/{number}/{axis}",
                    f"A coordinate is a number from -{MAX_COORDINATE:,.0f} to {MAX_COORDINATE:,.0f}; got {got}",
                )
    return np.asarray(stroke, np.float64).reshape(-1, 2)
