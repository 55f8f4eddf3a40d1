"""The response of every list, and the cursors that lead through a list."""

from __future__ import annotations

import base64
import binascii
import json
from types import UnionType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from app.errors import FieldError
from app.validation import MAX_INTEGER, invalid_input, is_text

MAX_PAGE = 200

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    data: list[Item]
    has_more: bool = Field(False, description="Whether entries follow; then `next` leads to them.")
    next: str | None = Field(None, description="Cursor: send it as `after` for the entries that follow.")


def encode_cursor(*values: str | float | None) -> str:
    """Return an opaque cursor for the entry with these sort values."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type | UnionType) -> list[Any]:
    """Return the sort values in a cursor, each of the type that the list expects.

    Raises:
        InvalidInput: This list has not returned such a cursor.
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        values = None
    if (
        not isinstance(values, list)
        or len(values) != len(types)
        or not all(isinstance(value, kind) for value, kind in zip(values, types, strict=True))
        or not all(_can_be_compared(value) for value in values)
    ):
        raise invalid_input([FieldError("?after", "This is not a cursor of this list: send a page's `next`.")])
    return values


def _can_be_compared(value: object) -> bool:
    """Whether every database can compare the value: a 64-bit integer, a finite number, or a text as in `is_text`."""
    if isinstance(value, str):
        return is_text(value)
    return not isinstance(value, int | float) or abs(value) <= MAX_INTEGER
