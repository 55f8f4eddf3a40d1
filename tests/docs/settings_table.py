"""The table of `docs/settings.md`, from `Settings`. After a setting has changed, write it anew:

python -m tests.docs.settings_table
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = "| variable | default | meaning |\n|---|---|---|\n"


def make_table() -> str:
    """A line for each setting, in the order of the class."""
    return HEAD + "".join(map(_line, Settings.model_fields.items()))


def read_table() -> str:
    """The table as it stands in the page."""
    found = re.search(re.escape(HEAD) + r"(?:\|.*\n)*", PAGE.read_text(encoding="utf-8"))
    assert found is not None, f"{PAGE.name} has no table of settings"
    return found[0]


def _line(setting: tuple[str, FieldInfo]) -> str:
    name, field = setting
    meaning = (field.description or "").removesuffix(".")
    return f"| `DIGITLAB_{name.upper()}` | {_as_text(field.default)} | {meaning} |\n"


def _as_text(default: object) -> str:
    """A default as it is written into the environment."""
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(value) if isinstance(value, bool | list) else str(value)
    return f"`{text}`" if text else "empty"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(read_table(), make_table()), encoding="utf-8")
