"""docs/api.md names every route and no other; the OpenAPI document describes every operation."""

from __future__ import annotations

import re

import pytest

from app.main import create_app
from app.settings import Settings
from tests.docs.pages import read, section

OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in create_app(Settings()).openapi()["paths"].items()
    for method, operation in methods.items()
]
ROUTES = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", section(read("docs/api.md"), "Routes"), re.MULTILINE)


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in OPERATIONS])
def test_every_route_is_documented(method: str, path: str) -> None:
    assert (method, path) in ROUTES, "docs/api.md has no line for it"


def test_no_other_route_is_documented() -> None:
    assert sorted(ROUTES) == sorted((method, path) for method, path, _ in OPERATIONS)


def test_every_operation_has_a_summary_and_an_id_of_its_own() -> None:
    assert all(operation["summary"] for _, _, operation in OPERATIONS)
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z_]+", each) and not each.endswith(("_get", "_post")) for each in ids)
