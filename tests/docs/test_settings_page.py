"""docs/settings.md is what `app/settings.py` says; no page names a variable that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.settings import Settings
from tests.docs.pages import PAGES, read
from tests.docs.settings_table import make_table, read_table

# Of the client commands, not of the service.
CLIENT_VARIABLES = {"DIGITLAB_URL", "DIGITLAB_API_KEY"}


def test_the_table_is_made_from_the_settings() -> None:
    assert read_table() == make_table(), "run `python -m tests.docs.settings_table`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_a_meaning(name: str) -> None:
    (line,) = re.findall(rf"^\| `DIGITLAB_{name.upper()}` \| .+ \| (.*) \|$", read("docs/settings.md"), re.MULTILINE)
    assert len(line) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_exists(page: Path) -> None:
    known = {f"DIGITLAB_{name.upper()}" for name in Settings.model_fields} | CLIENT_VARIABLES
    assert set(re.findall(r"DIGITLAB_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))) <= known
