"""JSON as clients of all languages write it: one kind of number, texts with escapes, a mark at the beginning."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest

from tests.conftest import AddModel, AssertProblem, TestClient

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

FOREST = {"kind": "random_forest"}
CHANGED = [
    {"seed": 7},
    {"priority": -3},
    {"split": {"seed": 5, "fold": {"number": 1, "of": 3}}},
    {"model": {"hidden_sizes": [12, 16]}},
    {"model": {"hidden_sizes": [], "dropout": 0}},
    {"model": {**FOREST, "n_estimators": 4, "max_depth": 3}},
    {"training": {"epochs": 60, "batch_size": 20, "evaluate_every": 5, "early_stopping": {"patience": 9}}},
    {"training": {"optimizer": {"kind": "sgd", "learning_rate": 1, "momentum": 0}}},
]
SWEEPS = [
    {"parameters": {"training.epochs": [2, 3], "model.hidden_sizes": [[8], [16, 8]], "model.dropout": [0, 0.5]}},
    {
        "search": {"kind": "random", "trials": 3, "seed": 1},
        "parameters": {"seed": {"low": 1, "high": 90, "integer": True}, "model.hidden_sizes": [[8], [16]]},
        "repeats": 1,
    },
    {"search": {"kind": "list"}, "points": [{"seed": 1}, {"seed": 2}], "cross_validation": {"folds": 2}, "priority": 5},
    {
        "base": {"training": {"epochs": 30}},
        "parameters": {"model.dropout": [0.25]},
        "stopping": {"rungs": 2, "reduction": 3},
        "repeats": 2,
    },
]


def as_floats(value: Any) -> Any:
    """The same document with `.0` behind every whole number."""
    if isinstance(value, dict):
        return {key: as_floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_floats(each) for each in value]
    return float(value) if type(value) is int else value


def send(client: TestClient, method: str, path: str, document: Any, **headers: str) -> Any:
    """With escapes for what is no ASCII, which the client itself might refuse to write."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.request(method, path, content=content, headers={"Content-Type": "application/json", **headers})


def described(answer: dict[str, Any]) -> str:
    """What was made of a body, as it is written out: 1 and 1.0 differ here."""
    own = {"id", "created_at", "queue_position", "updated_at", "tags"}
    return json.dumps({name: value for name, value in answer.items() if name not in own}, sort_keys=True)


@pytest.mark.parametrize(
    ("path", "document"), [("/runs", each) for each in CHANGED] + [("/sweeps", each) for each in SWEEPS]
)
def test_a_whole_float_is_that_integer(client: TestClient, path: str, document: Any) -> None:
    whole = send(client, "POST", path, document, **{"Idempotency-Key": "one"})
    with_point = send(client, "POST", path, as_floats(document), **{"Idempotency-Key": "other"})
    assert (whole.status_code, with_point.status_code) == (202, 202), with_point.text
    assert described(with_point.json()) == described(whole.json())
    repeated = send(client, "POST", path, as_floats(document), **{"Idempotency-Key": "one"})
    assert (repeated.status_code, repeated.json()["id"]) == (202, whole.json()["id"])


def test_labels_are_changed_by_a_whole_float(client: TestClient) -> None:
    run_id = send(client, "POST", "/runs", {}).json()["id"]
    assert send(client, "PATCH", f"/runs/{run_id}", b'{"priority": 2e1}').json()["priority"] == 20


def test_1_and_1_0_are_one_point(client: TestClient, assert_problem: AssertProblem) -> None:
    for values in ("[1, 1.0]", "[1e0, 1]"):
        response = send(client, "POST", "/sweeps", b'{"parameters": {"seed": %s}}' % values.encode())
        assert assert_problem(response, 422, None)["errors"][0]["pointer"] == "#/parameters/seed/1"


@pytest.mark.parametrize(
    "wrong", ["60.5", "1e300", "-1e300", '"60"', '"60.0"', "true", "false", "1e400", "NaN", "[60]"]
)
def test_what_is_no_whole_number_is_none(client: TestClient, assert_problem: AssertProblem, wrong: str) -> None:
    places = {
        "/runs": [("#/seed", '{"seed": %s}'), ("#/training/epochs", '{"training": {"epochs": %s}}')],
        "/sweeps": [
            ("#/parameters/seed/0", '{"parameters": {"seed": [%s]}}'),
            ("#/search/trials", '{"search": {"kind": "random", "trials": %s}}'),
        ],
    }
    for path, bodies in places.items():
        for pointer, body in bodies:
            response = send(client, "POST", path, (body % wrong).encode())
            found = assert_problem(response, 422, "invalid-input")["errors"][0]["pointer"]
            assert found in (pointer, f"{pointer}/0")


def test_a_float_beyond_2_to_the_53_stays_one(client: TestClient, assert_problem: AssertProblem) -> None:
    """Nobody can know which integer it was."""
    body = b'{"parameters": {"seed": [9007199254740994.0, 9007199254740992.0]}}'
    errors = assert_problem(send(client, "POST", "/sweeps", body), 422, None)["errors"]
    assert ["less than" in error["detail"] for error in errors] == [False, True]


def test_a_tensors_shape_may_be_written_as_floats(client: TestClient, add_model: AddModel) -> None:
    add_model()
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1.0, 64.0], "data": [1.0] * 64}
    assert send(client, "POST", "/v2/models/champion/infer", {"inputs": [tensor]}).status_code == 200


def test_every_body_may_begin_with_a_byte_order_mark(client: TestClient, add_model: AddModel) -> None:
    run_id = add_model()
    image = json.dumps({"instances": [[[0] * 8] * 8]})
    for method, path, text in (
        ("POST", "/runs", "{}"),
        ("PATCH", f"/runs/{run_id}", '{"name": "é"}'),
        ("POST", "/sweeps", '{"parameters": {"seed": [1]}}'),
        ("PUT", "/models/champion", json.dumps({"run_id": run_id})),
        ("POST", f"/predict?run_id={run_id}", image),
    ):
        assert send(client, method, path, codecs.BOM_UTF8 + text.encode()).status_code < 300
