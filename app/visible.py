"""Makes text from outside safe for a terminal or a log: characters that would control either are replaced."""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# The C0 and C1 controls, line and paragraph separators, characters that reorder or hide text
# (https://trojansource.codes), and lone surrogates. The two joiners (U+200C, U+200D) stay: Persian and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Return the text on one line, with each unsafe character replaced."""
    return _UNSAFE.sub(REPLACEMENT, text)


def escape_json(text: str) -> str:
    """Return an equivalent JSON text, with the unsafe characters inside its strings as escapes."""
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
