"""JSON as clients of all languages write it: integers as floats, texts with escapes, a byte order mark at the start."""

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
    """Return the same document with every integer as a float, which JSON writes with `.0`."""
    if isinstance(value, dict):
        return {key: as_floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_floats(each) for each in value]
    return float(value) if type(value) is int else value


def send(client: TestClient, method: str, path: str, document: Any, **headers: str) -> Any:
    """Send JSON with non-ASCII characters escaped; the test client refuses to write some of them."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.request(method, path, content=content, headers={"Content-Type": "application/json", **headers})


def described(answer: dict[str, Any]) -> str:
    """Return the stored document as JSON text, in which 1 and 1.0 differ."""
    own = {"id", "created_at", "queue_position", "updated_at", "tags"}
    return json.dumps({name: value for name, value in answer.items() if name not in own}, sort_keys=True)


def test_a_whole_float_is_that_integer(client: TestClient) -> None:
    documents = [("/runs", each) for each in CHANGED] + [("/sweeps", each) for each in SWEEPS]
    for number, (path, document) in enumerate(documents):
        one, other = {"Idempotency-Key": f"{number}"}, {"Idempotency-Key": f"{number}.0"}
        whole = send(client, "POST", path, document, **one)
        with_point = send(client, "POST", path, as_floats(document), **other)
        assert (whole.status_code, with_point.status_code) == (202, 202), with_point.text
        assert described(with_point.json()) == described(whole.json())
        repeated = send(client, "POST", path, as_floats(document), **one)
        assert (repeated.status_code, repeated.json()["id"]) == (202, whole.json()["id"])


def test_labels_are_changed_by_a_whole_float(client: TestClient) -> None:
    run_id = send(client, "POST", "/runs", {}).json()["id"]
    assert send(client, "PATCH", f"/runs/{run_id}", b'{"priority": 2e1}').json()["priority"] == 20


def test_1_and_1_0_are_one_point(client: TestClient, assert_problem: AssertProblem) -> None:
    for values in ("[1, 1.0]", "[1e0, 1]"):
        for space in (b"", b" " * 2**17):  # the longer body is parsed in a thread
            body = b'{"parameters": {"seed": %b}}' % values.encode() + space
            (error,) = assert_problem(send(client, "POST", "/sweeps", body), 422, None)["errors"]
            assert error["pointer"] == "#/parameters/seed/1"


def test_what_is_no_whole_number_is_none(client: TestClient, assert_problem: AssertProblem) -> None:
    places = [
        ("/runs", "#/seed", '{"seed": %s}'),
        ("/runs", "#/training/epochs", '{"training": {"epochs": %s}}'),
        ("/sweeps", "#/parameters/seed/0", '{"parameters": {"seed": [%s]}}'),
        ("/sweeps", "#/search/trials", '{"search": {"kind": "random", "trials": %s}}'),
    ]
    for wrong in ("60.5", "1e300", "-1e300", '"60"', '"60.0"', "true", "false", "1e400", "NaN", "[60]", "1" * 5000):
        for path, pointer, body in places:
            response = send(client, "POST", path, (body % wrong).encode())
            assert assert_problem(response, 422, "invalid-input")["errors"][0]["pointer"] == pointer


def test_a_float_beyond_2_to_the_53_stays_one(client: TestClient, assert_problem: AssertProblem) -> None:
    """A float this large does not identify the integer that was meant."""
    body = b'{"parameters": {"seed": [9007199254740994.0, 9007199254740992.0]}}'
    errors = assert_problem(send(client, "POST", "/sweeps", body), 422, None)["errors"]
    assert ["less than" in error["detail"] for error in errors] == [False, True]


def test_a_tensors_shape_may_be_written_as_floats(client: TestClient, add_model: AddModel) -> None:
    path = f"/v2/models/{add_model()}/infer"
    tensor = {"name": "pixels", "datatype": "UINT8", "shape": [1.0, 64.0], "data": [1.0] * 64}
    assert send(client, "POST", path, {"inputs": [tensor]}).status_code == 200


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


HALF, NUL = "\ud800", "\0"


TEXTS: list[tuple[str, str, Any, str]] = [
    ("POST", "/runs", {"from_run": "WRONG"}, "#/from_run"),
    ("POST", "/runs", {"preset": "WRONG"}, "#/preset"),
    ("POST", "/runs", {"name": "WRONG"}, "#/name"),
    ("POST", "/runs?dry_run=true", {"notes": "WRONG"}, "#/notes"),
    ("POST", "/runs", {"tags": {"a": "WRONG"}}, "#/tags/a"),
    ("POST", "/runs", {"tags": {"WRONG": "a"}}, "#/tags/WRONG"),
    ("POST", "/runs", {"WRONG": 1}, "#/WRONG"),
    ("POST", "/runs", {"model": {"kind": "WRONG"}}, "#/model/kind"),
    ("POST", "/runs", {"model": {"~/": [1, {"WRONG": 2}]}}, "#/model/~0~1/1/WRONG"),
    ("PATCH", "/runs/RUN", {"name": "WRONG"}, "#/name"),
    ("PUT", "/models/champion", {"run_id": "WRONG"}, "#/run_id"),
    ("POST", "/sweeps", {"parameters": {"WRONG": [1]}}, "#/parameters/WRONG"),
    ("POST", "/sweeps", {"parameters": {"seed": [1, "WRONG"]}}, "#/parameters/seed/1"),
    ("POST", "/sweeps", {"search": {"kind": "list"}, "points": [{"WRONG": 1}]}, "#/points/0/WRONG"),
    ("POST", "/sweeps", {"base": {"from_run": "WRONG"}, "parameters": {"seed": [1]}}, "#/base/from_run"),
    ("PUT", "/models/champion", "WRONG", "#"),
]


def test_a_text_that_cannot_be_stored_is_pointed_at(
    client: TestClient, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    run_id = add_model()
    for method, path, document, pointer in TEXTS:
        for wrong in (HALF, NUL, "a\udfffb", "\0\ud83d"):
            body = json.dumps(document).replace("WRONG", json.dumps(wrong)[1:-1]).encode()
            headers = {"Idempotency-Key": "one"} if method == "POST" else {}
            response = send(client, method, path.replace("RUN", run_id), body, **headers)
            (error,) = assert_problem(response, 422, "invalid-input")["errors"]
            shown = "".join(f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in wrong)
            assert error["pointer"] == pointer.replace("WRONG", shown)
            assert "U+0000" in error["detail"]
    (run,) = client.get("/runs").json()["data"]
    assert run["name"] == ""


def test_escapes_that_are_characters_are_texts(client: TestClient) -> None:
    body = rb'{"name": "\ud83d\ude00\ud83d\udc4d \\u0000 \\ud800", "notes": "\u00e9", "tags": {"a": "\uD83D\uDE00"}}'
    run = send(client, "POST", "/runs", body).json()
    assert (run["name"], run["notes"], run["tags"]) == ("😀👍 \\u0000 \\ud800", "é", {"a": "😀"})


def test_half_a_character_in_bytes_is_pointed_at(client: TestClient, assert_problem: AssertProblem) -> None:
    body = b'{"name": "' + HALF.encode("utf-8", "surrogatepass") + b'"}'
    (error,) = assert_problem(send(client, "POST", "/runs", body), 422, "invalid-input")["errors"]
    assert error["pointer"] == "#/name"
    assert_problem(send(client, "POST", "/runs", b'{"name": "\xff"}'), 400, "malformed-json")


@pytest.mark.parametrize("depth", [70, 5_000, 100_000])
def test_a_body_that_is_nested_deeply_is_refused(
    client: TestClient, add_model: AddModel, assert_problem: AssertProblem, depth: int
) -> None:
    run_id = add_model()
    for value in (b"[" * depth + b"1" + b"]" * depth, b'{"a":' * depth + rb'"\u0000"' + b"}" * depth):
        for method, path, body in (
            ("POST", "/runs", b'{"model": %b}'),
            ("PATCH", f"/runs/{run_id}", b'{"name": %b}'),
            ("POST", "/sweeps", b'{"parameters": {"seed": [%b]}}'),
            ("POST", "/sweeps", b'{"search": {"kind": "list"}, "points": [%b]}'),
            ("PUT", "/models/champion", b'{"run_id": %b}'),
            ("POST", f"/predict?run_id={run_id}", b'{"instances": %b}'),
        ):
            response = send(client, method, path, body % value, **{"Idempotency-Key": "one"})
            assert_problem(response, 422 if depth == 70 else 400, None)
        tensor = b'{"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": [%b]}]}' % value
        assert send(client, "POST", f"/v2/models/{run_id}/infer", tensor).status_code == 400


def test_a_range_that_is_wider_than_any_number_is_pointed_at(client: TestClient, assert_problem: AssertProblem) -> None:
    for path, is_integer in (("seed", True), ("model.dropout", False)):
        space = {"low": -1e308, "high": 1e308, "integer": is_integer}
        document = {"search": {"kind": "random", "trials": 2}, "parameters": {path: space}}
        (error,) = assert_problem(send(client, "POST", "/sweeps", document), 422, None)["errors"]
        assert error["pointer"] == f"#/parameters/{path}"
        assert "far apart" in error["detail"]


PARAMETERS = {
    "/runs?sweep_id=%00": "?sweep_id",
    "/runs?tag=a:%00": "?tag",
    "/runs?tag=a:b%00c": "?tag",
    "/events?run_id=%00": "?run_id/0",
    "/events?sweep_id=%00": "?sweep_id",
    "/runs/%00/mistakes": "{run_id}",
    "/runs/RUN/mistakes?against=%00": "?against",
    "/charts/curves.png?run_id=%00": "?run_id/0",
    "/sweeps/%00/report": "{sweep_id}",
    "/runs?after=99999999999999999999": "?after",
    "/events?after=99999999999999999999": "?after",
    "/runs/RUN/metrics?after=99999999999999999999": "?after",
}


def test_a_parameter_that_cannot_be_looked_for_is_pointed_at(
    client: TestClient, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    run_id = add_model()
    for query, pointer in PARAMETERS.items():
        body = assert_problem(client.get(query.replace("RUN", run_id)), 422, "invalid-input")
        assert body["errors"][0]["pointer"] == pointer
    for path in ("/datasets/%00", "/presets/%00", "/datasets/%00/data.npz", "/datasets/%00/samples"):
        assert_problem(client.get(path), 404, None)


@pytest.mark.parametrize("error", [OverflowError("int too large"), UnicodeEncodeError("utf-8", HALF, 0, 1, "no")])
def test_what_slips_through_is_logged_and_no_fault_of_a_get(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    assert_problem: AssertProblem,
    error: Exception,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("app.runs.service.prepare", fail)
    monkeypatch.setattr("app.runs.service.get_run", fail)
    assert_problem(send(client, "POST", "/runs", {}), 422, "invalid-input")
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info
    assert record.exc_info[1] is error
    assert_problem(client.get("/runs/x"), 500, "internal-error")
