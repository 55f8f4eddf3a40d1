"""The response of every list, and the cursors that lead through a list."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

from app.errors import FieldError
from app.validation import MAX_INTEGER, invalid_input, is_text

MAX_PAGE = 200

Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(BaseModel, Generic[Item]):
    data: list[Item]
    has_more: bool = Field(False, description="Whether entries follow; then `next` leads to them.")
    next: str | None = Field(None, description="Cursor: send it as `after` for the entries that follow.")

    @classmethod
    def of(cls, data: Sequence[Item], cursor: str | None) -> Page[Item]:
        """A page, and the cursor of the next one; None at the end."""
        return cls(data=list(data), has_more=cursor is not None, next=cursor)


def cut(rows: Sequence[Row], limit: int, cursor_of: Callable[[Row], str]) -> tuple[Sequence[Row], str | None]:
    """The rows of a page, and the cursor of the next page; None at the end.

    Args:
        rows: One more than the limit where others follow.
        limit: The most rows of a page.
        cursor_of: Makes the cursor from the last row of the page.
    """
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor_of(rows[limit - 1])


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
