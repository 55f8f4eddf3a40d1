"""Large input: its cost is bounded and proportional to its length, and never paid while holding the write lock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, event

from app.database import Database
from app.errors import InvalidInput
from app.main import create_app
from app.run_config import RunConfig
from app.settings import Settings
from app.sweeps.schemas import SweepSubmission
from app.sweeps.search_space import expand
from app.validation import MAX_ERRORS
from tests.conftest import AssertProblem, TestClient


def application(client: TestClient) -> FastAPI:
    assert isinstance(client.app, FastAPI)
    return client.app


def paths(number: int) -> dict[str, list[int]]:
    return {f"seed.a{index}": [1] for index in range(number)}


def count_calls(call: Callable[[], object]) -> int:
    calls = 0

    def count(_frame: object, kind: str, _argument: object) -> None:
        nonlocal calls
        calls += kind in ("call", "c_call")

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "document",
    [
        {"parameters": paths(65)},
        {"parameters": paths(80_000)},
        {"search": {"kind": "random", "trials": 1}, "parameters": paths(65)},
        {"search": {"kind": "list"}, "points": [{"seed": 1}, paths(65)]},
    ],
)
def test_a_sweep_of_too_many_fields_is_refused_by_the_settings_name(
    client: TestClient, assert_problem: AssertProblem, document: dict[str, Any]
) -> None:
    (error,) = assert_problem(client.post("/sweeps?dry_run=true", json=document), 422, "invalid-input")["errors"]
    assert error["pointer"] == ("#/points/1" if "points" in document else "#/parameters")
    assert "more than the 64 of a sweep (DIGITLAB_MAX_PARAMETERS)" in error["detail"]


def test_as_many_fields_as_the_setting_says_may_be_searched(settings: Settings, database: Database) -> None:  # noqa: ARG001
    document = {"parameters": {"seed": [0, 1], "model.dropout": [0.1, 0.2]}}
    for limit, expected in ((2, 200), (1, 422)):
        with TestClient(create_app(settings.model_copy(update={"max_parameters": limit}))) as client:
            assert client.post("/sweeps?dry_run=true", json=document).status_code == expected


@pytest.mark.parametrize("kind", ["grid", "list"])
def test_the_work_of_reading_paths_grows_with_their_number(kind: str) -> None:
    def read(number: int) -> None:
        given: dict[str, Any] = {"parameters": paths(number)} if kind == "grid" else {"points": [paths(number)]}
        submission = SweepSubmission.model_validate({"search": {"kind": kind}, **given})
        with pytest.raises(InvalidInput):
            expand(submission, RunConfig(), max_points=1)

    few, many = (count_calls(lambda number=number: read(number)) for number in (200, 800))  # type: ignore[misc]
    assert many < 5 * few


def test_a_wrong_value_is_looked_at_once_however_many_points_have_it() -> None:
    def read(number: int) -> InvalidInput:
        parameters = {"seed": list(range(number)), "model.activation": ["x" * 1000]}
        submission = SweepSubmission.model_validate({"parameters": parameters})
        with pytest.raises(InvalidInput) as refused:
            expand(submission, RunConfig(), max_points=number)
        return refused.value

    assert [error.pointer for error in read(2).errors] == ["#/parameters/model.activation/0"]
    few, many = (count_calls(lambda number=number: read(number)) for number in (100, 400))  # type: ignore[misc]
    assert many < 5 * few
    assert many < 100 * 400


MANY = {f"k{index}": 1 for index in range(1000)}


@pytest.mark.parametrize(
    ("method", "path", "document", "pointer"),
    [
        ("POST", "/runs", MANY, "#/k0"),
        ("POST", "/runs", {"model": MANY}, "#/model/k0"),
        ("POST", "/sweeps", {**MANY, "parameters": {"seed": [1]}}, "#/k0"),
        ("POST", "/sweeps", {"base": MANY, "parameters": {"seed": [1]}}, "#/base/k0"),
        ("POST", "/sweeps", {"search": {"kind": "list"}, "points": [1] * 1000}, "#/points/0"),
        ("POST", "/sweeps", {"parameters": {"model": [MANY]}}, "#/parameters/model/0/k0"),
        ("PATCH", "/runs/none", MANY, "#/k0"),
        ("PUT", "/models/champion", {"run_id": "x", **MANY}, "#/k0"),
    ],
)
def test_of_a_thousand_errors_a_hundred_are_named(
    client: TestClient, assert_problem: AssertProblem, method: str, path: str, document: object, pointer: str
) -> None:
    problem = assert_problem(client.request(method, path, json=document), 422, "invalid-input")
    assert len(problem["errors"]) <= MAX_ERRORS
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["detail"].startswith(f"{pointer}: ")
    if path != "/sweeps" or "model" not in document.get("parameters", {}):  # type: ignore[attr-defined]
        assert problem["detail"].endswith(" (and 999 more)")


@pytest.mark.parametrize(
    ("path", "document", "headers", "expected"),
    [
        ("/runs?dry_run=true", {}, {}, 200),
        ("/runs?dry_run=true", {"from_run": "none"}, {}, 404),
        ("/runs", {"seed": -1}, {"Idempotency-Key": "a"}, 422),
        ("/runs", {"from_run": "none"}, {"Idempotency-Key": "a"}, 404),
        ("/sweeps?dry_run=true", {"parameters": {"seed": [0]}}, {}, 200),
        ("/sweeps", {"parameters": {"seed": [-1]}}, {"Idempotency-Key": "a"}, 422),
        ("/sweeps", {"base": {"from_run": "none"}, "parameters": {"seed": [0]}}, {}, 404),
        ("/models/champion", {"run_id": "none"}, {}, 404),
    ],
)
def test_what_is_refused_or_only_planned_begins_no_writing_transaction(
    client: TestClient, path: str, document: dict[str, Any], headers: dict[str, str], expected: int
) -> None:
    writing = []

    def note(connection: Connection) -> None:
        writing.append(connection.get_execution_options().get("writes", False))

    engine = application(client).state.database.engine
    event.listen(engine, "begin", note)
    try:
        method = "PUT" if path.startswith("/models") else "POST"
        assert client.request(method, path, json=document, headers=headers).status_code == expected
    finally:
        event.remove(engine, "begin", note)
    assert not any(writing)


TINY = {"val_size": 0.8, "test_size": 0.1}


@pytest.mark.parametrize(
    ("path", "document", "pointer"),
    [
        ("/runs", {"split": {**TINY, "fold": {"number": 0, "of": 20}}}, "#/split/fold/of"),
        ("/runs", {"split": {**TINY, "fold": {"number": 17, "of": 18}}}, "#/split/fold/of"),
        (
            "/sweeps",
            {"base": {"split": TINY}, "parameters": {"seed": [0]}, "cross_validation": {"folds": 20}},
            "#/cross_validation/folds",
        ),
        (
            "/sweeps",
            {"parameters": {"split.val_size": [0.3, 0.8], "split.test_size": [0.1]}, "cross_validation": {"folds": 18}},
            "#/cross_validation/folds",
        ),
        (
            "/sweeps",
            {"base": {"split": TINY}, "parameters": {"split.fold": [{"number": 0, "of": 17}, {"number": 0, "of": 18}]}},
            "#/parameters/split.fold/1",
        ),
        (
            "/sweeps",
            {"base": {"split": {"fold": {"number": 0, "of": 20}}}, "parameters": {"split": [TINY]}},
            "#/parameters/split/0",
        ),
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_folds_that_cannot_hold_each_digit_are_refused(
    client: TestClient, assert_problem: AssertProblem, path: str, document: object, pointer: str, query: str
) -> None:
    (error,) = assert_problem(client.post(f"{path}{query}", json=document), 422, "invalid-input")["errors"]
    assert error["pointer"] == pointer
    assert "at most 17 folds" in error["detail"]


@pytest.mark.parametrize(("split", "folds"), [(TINY, 17), ({"val_size": 0.3}, 20), ({"val_size": 0.75}, 20)])
def test_as_many_folds_as_there_is_room_for_are_accepted(
    client: TestClient, split: dict[str, float], folds: int
) -> None:
    document = {"base": {"split": split}, "parameters": {"seed": [0]}, "cross_validation": {"folds": folds}}
    assert client.post("/sweeps?dry_run=true", json=document).json()["num_trials"] == folds
