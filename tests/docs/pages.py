"""README.md and `docs/` as the tests read them: pages, blocks of code, names in backticks."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return [body for found, body in _BLOCK.findall(text) if found == language]


def inline_code(text: str) -> list[str]:
    """What stands in backticks, outside of fenced blocks."""
    return _CODE.findall(_BLOCK.sub("", text))


def section(text: str, title: str) -> str:
    """What a heading of the second level leads to, up to the next one."""
    _, heading, rest = f"\n{text}".partition(f"\n## {title}\n")
    assert heading, f"there is no section {title!r}"
    return rest.partition("\n## ")[0]
