"""Numbers and texts that JSON can express and a database cannot store."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import AddModel, AssertProblem, TestClient

HALF = "\ud800"
Change = Callable[[TestClient, Any], Any]


def send(client: TestClient, method: str, path: str, document: Any) -> Any:
    content = json.dumps(document).encode()  # escapes non-ASCII characters; httpx2 refuses to write some of them
    return client.request(method, path, content=content, headers={"Content-Type": "application/json"})


def nested(depth: int) -> Any:
    data: Any = 1
    for _ in range(depth):
        data = [data]
    return {"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": data}]}


BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/runs", {"from_run": HALF}),
    ("POST", "/runs", {"preset": HALF}),
    ("POST", "/runs", {"name": HALF}),
    ("POST", "/runs", {"notes": HALF}),
    ("POST", "/runs", {"tags": {"a": HALF}}),
    ("POST", "/runs", {"tags": {HALF: "a"}}),
    ("POST", "/runs", {HALF: 1}),
    ("POST", "/runs", {"dataset": HALF}),
    ("POST", "/runs", {"model": {HALF: 1}}),
    ("POST", "/runs", {"model": {"kind": HALF}}),
    ("POST", "/runs?dry_run=true", {"name": HALF}),
    ("PATCH", "/runs/RUN", {"name": HALF}),
    ("PATCH", "/runs/RUN", {"notes": HALF}),
    ("PATCH", "/runs/RUN", {"tags": {HALF: HALF}}),
    ("PUT", "/models/champion", {"run_id": HALF}),
    ("POST", "/predict", {HALF: 1}),
    ("POST", "/predict", {"instances": [HALF]}),
    ("POST", "/predict", {"instances": [[[HALF] * 8] * 8]}),
    ("POST", "/sweeps", {"name": HALF, "parameters": {"seed": [1]}}),
    ("POST", "/sweeps", {"parameters": {HALF: [1]}}),
    ("POST", "/sweeps", {"parameters": {"model.activation": [HALF]}}),
    ("POST", "/sweeps", {"preset": HALF}),
    (
        "POST",
        "/sweeps",
        {
            "search": {"kind": "random", "trials": 3},
            "parameters": {"seed": {"low": -1e308, "high": 1e308, "integer": True}},
        },
    ),
    ("POST", "/runs", {"seed": 1e308}),
    ("POST", "/runs", {"seed": 10**40}),
    ("POST", "/runs", {"priority": 10**40}),
    ("POST", "/v2/models/champion/infer", {"id": HALF, "inputs": []}),
    ("POST", "/v2/models/champion/infer", {"inputs": [{"name": HALF}]}),
    *(("POST", "/v2/models/champion/infer", nested(depth)) for depth in (5, 33, 70, 150)),
]


@pytest.mark.parametrize(("method", "path", "document"), BODIES, ids=lambda value: ascii(value)[:50])
def test_a_body_that_cannot_be_stored_is_refused(
    client_with_model: TestClient, add_model: AddModel, method: str, path: str, document: Any
) -> None:
    response = send(client_with_model, method, path.replace("RUN", add_model()), document)
    assert 400 <= response.status_code < 500, response.text
    assert response.json()
    assert client_with_model.get("/runs").status_code == 200


def cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


QUERIES = [
    "/runs/RUN/metrics?after=9223372036854775808",
    "/runs/RUN/metrics?after=1" + "0" * 100,
    "/runs/RUN/mistakes?after=9223372036854775808",
    "/datasets/digits/samples?after=9223372036854775808",
    "/events?after=9223372036854775808",
    f"/runs?sort=num_parameters&after={cursor(10**30, 'x')}",
    f"/runs?after={cursor(10**30, 'x')}",
    f"/runs?sort=name&after={cursor(HALF, HALF)}",
    f"/runs?sort=val_accuracy&after={cursor(1e400, 'x')}",
    f"/models?after={cursor(10**30, 'x')}",
    f"/sweeps?after={cursor(10**30, 'x')}",
    f"/sweeps?after={cursor(HALF)}",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_cannot_be_looked_for_is_refused(
    client: TestClient, add_model: AddModel, query: str, assert_problem: AssertProblem
) -> None:
    assert_problem(client.get(query.replace("RUN", add_model())), 422, None)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_a_client_has_is_not_sent_again(client: TestClient, add_model: AddModel) -> None:
    path = f"/runs/{add_model()}/model.onnx"
    etag = client.get(path).headers["etag"]
    for written in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = client.get(path, headers={"If-None-Match": written})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_an_empty_last_event_id_is_as_if_absent(client: TestClient, add_model: AddModel) -> None:
    path = f"/runs/{add_model()}/events/stream"
    assert client.get(path, headers={"Last-Event-ID": ""}).status_code == 200
