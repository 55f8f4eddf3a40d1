"""Numbers and values in sentences, for people who write JSON."""

from __future__ import annotations

import json
from typing import Any


def count(number: int, noun: str) -> str:
    """`1 tree`, `2,000 trees`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def as_json(value: Any) -> str:
    """As the client wrote it: null, true, NaN, texts in double quotes."""
    return json.dumps(value, ensure_ascii=False, default=str)
