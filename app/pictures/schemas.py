"""Request and response models of pictures and strokes. They document bodies; `bodies.py` reads them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.datasets.catalog import MAX_PIXEL

PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif")
MULTIPART = "multipart/form-data"
TYPES = (*PICTURE_TYPES, MULTIPART)  # beside JSON

MAX_PICTURES = 256  # of a request
MAX_STROKES = 200  # of a picture
MAX_POINTS = 10_000  # of a picture
MAX_POINTS_OF_REQUEST = 100_000
MAX_COORDINATE = 1e9  # in either direction

A_ONE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAG0lEQVR42mP8zwABTAwMDIyMUAZchBCDEaYdAFGlAg++0qYYAAAAAElFTkSuQmCC"
)
A_SEVEN = [[[10, 10], [60, 10], [30, 90]]]

Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE)]
Point = Annotated[list[Coordinate], Field(min_length=2, max_length=2)]
Stroke = Annotated[list[Point], Field(max_length=MAX_POINTS)]
Drawing = Annotated[list[Stroke], Field(max_length=MAX_STROKES)]
PixelRow = Annotated[list[Annotated[int, Field(ge=0, le=MAX_PIXEL)]], Field(min_length=8, max_length=8)]
PixelImage = Annotated[list[PixelRow], Field(min_length=8, max_length=8)]


class PicturesRequest(BaseModel):
    """Pictures of one digit each."""

    model_config = ConfigDict(extra="forbid")

    pictures: list[str] = Field(
        min_length=1,
        max_length=MAX_PICTURES,
        description="PNG, JPEG, WEBP, BMP or GIF files, each as base64 or as a `data:` URL; 32 megapixels together.",
        examples=[[A_ONE]],
    )


class StrokesRequest(BaseModel):
    """Digits as strokes, each a list of points."""

    model_config = ConfigDict(extra="forbid")

    strokes: list[Drawing] = Field(
        min_length=1,
        max_length=MAX_PICTURES,
        description="Digits, each a list of strokes, each a list of points [x, y], y downwards, in any unit.",
        examples=[[A_SEVEN]],
    )


class DigitizeResponse(BaseModel):
    pixels: list[PixelImage] = Field(
        description="One image for each picture, in order; usable as `instances` of `/predict`. All 0: a blank picture."
    )


def picture_content() -> dict[str, Any]:
    """Describe the bodies that are files, for the OpenAPI document."""
    one = {"schema": {"type": "string", "format": "binary", "description": "A file with one digit."}}
    parts = {
        "type": "object",
        "description": f"1 to {MAX_PICTURES} files with one digit each, whatever the names of the parts.",
        "additionalProperties": {"type": "array", "items": {"type": "string", "format": "binary"}},
    }
    return dict.fromkeys(PICTURE_TYPES, one) | {MULTIPART: {"schema": parts}}
