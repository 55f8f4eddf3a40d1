"""Formats numbers and values in messages to users of JSON."""

from __future__ import annotations

import json
from typing import Any


def count(number: int, noun: str) -> str:
    """Return a number and its noun, as in `1 tree` or `2,000 trees`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_json(value: Any) -> str:
    """Return a value as the client wrote it: null, true, NaN, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False, default=str)


def name_value(value: Any) -> str:
    """Return what a value is, or a short value itself, as in `got an array of 3`."""
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"
