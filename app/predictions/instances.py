"""Parses a request's body into an array of pixels: fast if the body is valid, exact about the wrong place if not."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from app.datasets.catalog import MAX_PIXEL, NUM_PIXELS
from app.http.json_bodies import parse_leniently
from app.validation import write_pointer, wrong_place
from app.wording import as_json, count, name_value

# simdjson has no wheels for Python 3.14 yet.
simdjson: Any = importlib.import_module("simdjson") if importlib.util.find_spec("simdjson") else None

MAX_INSTANCES = 4096
SIDE = 8

# `_parse_well_formed` removes these bytes, and with them the e's of `instances`. A minus sign stays. The parts below
# are what remains of a valid body.
_IN_NUMBERS_AND_SPACE = b"0123456789.eE+ \t\r\n"
_ROW = b"[" + b"," * (SIDE - 1) + b"]"
_IMAGE = b"[" + b",".join([_ROW] * SIDE) + b"]"
_HEAD, _TAIL = (part.translate(None, _IN_NUMBERS_AND_SPACE) for part in (b'{"instances":[', b"]}"))

Pixels = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


def parse_bytes(body: bytes) -> Pixels:
    """Parse the images in a binary `/predict` body.

    Args:
        body: uint8 pixels, 64 bytes per image, 1 to 4,096 images.

    Returns:
        Pixels, uint8, N × 64, 0 to 16.

    Raises:
        InvalidInput: The length is not that of 1 to 4,096 images, or a pixel (the first is named) is too large.
    """
    num_images, rest = divmod(len(body), NUM_PIXELS)
    if rest or not num_images:
        raise wrong_place("#", f"An image is {NUM_PIXELS} bytes, one a pixel; got {count(len(body), 'byte')}")
    if num_images > MAX_INSTANCES:
        raise wrong_place("#", f"At most {MAX_INSTANCES:,} images a request; got {num_images:,}")
    pixels = np.frombuffer(body, np.uint8).reshape(num_images, NUM_PIXELS)
    if pixels.flat[pixels.argmax()] > MAX_PIXEL:
        number, place = np.argwhere(pixels > MAX_PIXEL)[0].tolist()
        _check_pixel(f"#/{number}/{place // SIDE}/{place % SIDE}", int(pixels[number, place]))
    return pixels


def parse_instances(body: bytes) -> Pixels:
    """Parse the images in a JSON `/predict` body.

    Args:
        body: JSON, `{"instances": [8×8 numbers from 0 to 16, …]}`, 1 to 4,096 images.

    Returns:
        Pixels, float32, N × 64, 0 to 16.

    Raises:
        MalformedBody: The body is not JSON.
        InvalidInput: The document is not valid; the error names the first wrong place.
    """
    pixels = _parse_well_formed(body)
    if pixels is None:
        document = parse_leniently(body)
        _check(document)
        pixels = np.asarray(document["instances"], dtype=np.float32)
    return pixels.reshape(-1, NUM_PIXELS)


def _parse_well_formed(body: bytes) -> Pixels | None:
    """Return the images if the body holds them and nothing else; None if anything is wrong or unusual.

    The shape is checked on the outline of the document, which is the body without its numbers. The numbers can then be
    read in one call: a Python object for each pixel would cost several times the forward pass.
    """
    outline = body.translate(None, _IN_NUMBERS_AND_SPACE)
    num_images = (len(outline) - len(_HEAD) - len(_TAIL) + 1) // (len(_IMAGE) + 1)
    if not 1 <= num_images <= MAX_INSTANCES or outline != _HEAD + b",".join([_IMAGE] * num_images) + _TAIL:
        return None
    try:
        pixels = _parse_numbers(body)
    except (ValueError, KeyError, RuntimeError):  # not JSON, another key, an integer beyond 64 bits
        return None
    return pixels.astype(np.float32) if pixels[pixels.argmax()] <= MAX_PIXEL else None


def _parse_numbers(body: bytes) -> npt.NDArray[np.float64]:
    """Read all numbers of a document whose outline has been checked."""
    if simdjson is None:
        return np.asarray(orjson.loads(body)["instances"], dtype=np.float64).ravel()
    return np.frombuffer(simdjson.Parser().parse(body)["instances"].as_buffer(of_type="d"), dtype=np.float64)


def _check(document: Any) -> None:
    """Check the document up to the first wrong place.

    Raises:
        InvalidInput: The document is not valid; the error names the first wrong place.
    """
    if not isinstance(document, dict):
        raise wrong_place("#", f"Send an object with `instances`, `pictures` or `strokes`; got {name_value(document)}")
    for field in document:
        if field != "instances":
            detail = "Send one field alone, and first: `instances`, `pictures` or `strokes`"
            raise wrong_place(f"#{write_pointer([field])}", detail)
    if "instances" not in document:
        raise wrong_place("#/instances", "Field required: an array of 8×8 images")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise wrong_place("#/instances", f"Send an array of 1 to {MAX_INSTANCES:,} images; got {name_value(instances)}")
    if len(instances) > MAX_INSTANCES:
        raise wrong_place("#/instances", f"At most {MAX_INSTANCES:,} images a request; got {len(instances):,}")
    for number, image in enumerate(instances):
        _check_list(f"#/instances/{number}", image, "An image is an array of 8 rows")
        for y, row in enumerate(image):
            _check_list(f"#/instances/{number}/{y}", row, "A row is an array of 8 pixels")
            for x, pixel in enumerate(row):
                _check_pixel(f"#/instances/{number}/{y}/{x}", pixel)


def _check_list(pointer: str, value: Any, rule: str) -> None:
    if not isinstance(value, list) or len(value) != SIDE:
        raise wrong_place(pointer, f"{rule}; got {name_value(value)}")


def _check_pixel(pointer: str, pixel: Any) -> None:
    if isinstance(pixel, bool) or not isinstance(pixel, int | float):
        raise wrong_place(pointer, f"A pixel is a number from 0 to {MAX_PIXEL}; got {name_value(pixel)}")
    if not 0 <= pixel <= MAX_PIXEL:  # refuses NaN too
        raise wrong_place(pointer, explain_pixel(pixel))


def explain_pixel(pixel: float) -> str:
    """Explain why a number is not a pixel."""
    if isinstance(pixel, float) and not math.isfinite(pixel):
        return f"A pixel is a finite number from 0 to {MAX_PIXEL}; got {as_json(pixel)}"
    got = str(pixel) if abs(pixel) < 1e15 else "a very large number"
    hint = ". Pixels of 0–255? Divide them by 16 first" if MAX_PIXEL < pixel <= 255 else ""
    return f"A pixel is a number from 0 to {MAX_PIXEL}; got {got}{hint}"
