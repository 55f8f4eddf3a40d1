"""The README names every setting and every route; the OpenAPI document describes every operation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method, operation in methods.items()
]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert f"DIGITLAB_{name.upper()}" in README


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS])
def test_every_route_is_in_the_readme(method: str, path: str) -> None:
    assert f"`{method} {path}`" in README


def test_every_operation_has_a_summary_and_an_id_of_its_own() -> None:
    assert all(operation["summary"] for _, _, operation in OPERATIONS)
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", each) and not each.endswith(("_get", "_post")) for each in ids)
