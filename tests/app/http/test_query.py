"""Query parameters: an unknown or repeated parameter is refused, never silently ignored."""

from __future__ import annotations

import re

import pytest

from app.main import create_app
from app.settings import Settings
from tests.conftest import AddModel, AssertProblem, TestClient

DOCUMENT = create_app(Settings()).openapi()
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]
SINGLE = [
    (method.upper(), path, parameter["name"])
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    for parameter in operation.get("parameters", ())
    if parameter["in"] == "query" and parameter["schema"].get("type") != "array"
]
TAKES_ANY = re.compile(r"/health/.*|/metrics|/docs|/openapi\.json|.*\.(png|svg)")

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def fill(path: str) -> str:
    return re.sub(r"{\w+}", "x", path)


def test_every_operation_refuses_parameters_that_it_does_not_know(
    client: TestClient, assert_problem: AssertProblem
) -> None:
    for method, path in [*OPERATIONS, ("GET", "/docs"), ("GET", "/openapi.json")]:
        response = client.request(method, f"{fill(path)}?nonsense=1&t=2")
        if TAKES_ANY.fullmatch(path):
            assert "nonsense" not in response.text, path
        elif path.startswith("/v2"):
            assert response.status_code == 422, path
            assert "?nonsense" in response.json()["error"]
        else:
            body = assert_problem(response, 422, "invalid-input")
            assert [error["pointer"] for error in body["errors"]] == ["?nonsense", "?t"], path


def test_every_operation_refuses_what_comes_twice(client: TestClient, assert_problem: AssertProblem) -> None:
    assert len(SINGLE) > 30
    for method, path, name in SINGLE:
        body = assert_problem(client.request(method, f"{fill(path)}?{name}=1&{name}=1"), 422, "invalid-input")
        assert {"pointer": f"?{name}", "detail": "This may be given once; it came 2 times."} in body["errors"], path


def test_what_was_meant_is_suggested(client: TestClient, add_model: AddModel, assert_problem: AssertProblem) -> None:
    for path, meant in (("/runs?limt=3", "limit"), ("/runs?Status=queued", "status"), ("/events?run=x", "run_id")):
        body = assert_problem(client.get(path), 422, "invalid-input")
        assert f'did you mean "{meant}"?' in body["detail"]
    body = assert_problem(client.post("/predict?probabilites=false", content=bytes(64)), 422, "invalid-input")
    assert 'did you mean "probabilities"?' in body["detail"]
    run_id = add_model()
    assert "here are none" in assert_problem(client.get(f"/runs/{run_id}?x"), 422, "invalid-input")["detail"]
    for path in ("/runs?", "/runs?&", f"/events?run_id={run_id}&run_id={run_id}", "/runs?limit=1&status=queued"):
        assert client.get(path).status_code == 200, path
