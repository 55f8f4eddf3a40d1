"""Formats parameters and their values as short text that the font can show."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from matplotlib.font_manager import findfont, get_font

from app.parameter_names import parameter_names

MISSING_GLYPH = "□"


def printable(text: str, max_length: int = 200) -> str:
    """Make text one line, shorten it in the middle, and replace characters that the font lacks."""
    known = _characters()
    text = "".join(char if ord(char) in known else MISSING_GLYPH for char in " ".join(text.split()))
    if len(text) <= max_length:
        return text
    tail = (max_length - 1) // 3
    return f"{text[: max_length - 1 - tail]}…{text[len(text) - tail :]}"


def value_label(value: Any, max_length: int = 18) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return printable(value, max_length) or '""'
    if isinstance(value, list) and value and all(isinstance(item, int | float | str) for item in value):
        return printable("-".join(value_label(item) for item in value), max_length)
    return printable(json.dumps(value), max_length)


def parameters_label(parameters: dict[str, Any]) -> str:
    names = parameter_names(list(parameters))
    return ", ".join(
        f"{printable(names[path], 40)}\N{NO-BREAK SPACE}{value_label(value)}" for path, value in parameters.items()
    )


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
