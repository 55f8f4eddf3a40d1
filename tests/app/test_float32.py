"""Numbers that float32 cannot hold are refused where they are submitted; what is stored stays readable."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database
from app.runs.config import RunConfig
from app.tables import Run
from tests.conftest import AddRun, TestClient

ADAM = {"kind": "adam", "learning_rate": 0.01}
SGD = {"kind": "sgd", "learning_rate": 0.01}
NO_FLOAT32 = [
    ("training.optimizer.epsilon", 1e-300, {**ADAM, "epsilon": 1e-300}),
    ("training.optimizer.epsilon", 1e-45, {**ADAM, "epsilon": 1e-45}),
    ("training.optimizer.beta1", 0.99999999999, {**ADAM, "beta1": 0.99999999999}),
    ("training.optimizer.beta2", 0.9999999, {**ADAM, "beta2": 0.9999999}),
    ("training.optimizer.learning_rate", 1e-300, {**ADAM, "learning_rate": 1e-300}),
    ("training.optimizer.weight_decay", 5e-324, {**SGD, "weight_decay": 5e-324}),
    ("training.optimizer.momentum", 1e-300, {**SGD, "momentum": 1e-300}),
    ("training.optimizer.momentum", 0.99999999999, {**SGD, "momentum": 0.99999999999}),
]


@pytest.mark.parametrize(("path", "value", "optimizer"), NO_FLOAT32)
@pytest.mark.parametrize("route", ["/runs", "/sweeps?dry_run=true"])
def test_what_float32_cannot_hold_is_refused_where_it_stands(
    client: TestClient, path: str, value: float, optimizer: dict[str, Any], route: str
) -> None:
    if route.startswith("/runs"):
        document: dict[str, Any] = {"training": {"optimizer": optimizer}}
        pointer = "#/" + path.replace(".", "/")
    else:
        base = {"training": {"optimizer": ADAM if optimizer["kind"] == "adam" else SGD}}
        document = {"base": base, "search": {"kind": "grid"}, "parameters": {path: [0.01, value]}}
        pointer = f"#/parameters/{path}/1"
    answer = client.post(route, json=document)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert "float32" in error["detail"]


@pytest.mark.parametrize(
    "optimizer", [{**ADAM, "epsilon": 1e-12, "beta1": 0.0, "beta2": 0.99999}, {**SGD, "weight_decay": 0.0}]
)
def test_what_float32_holds_is_taken(client: TestClient, optimizer: dict[str, Any]) -> None:
    assert client.post("/runs?dry_run=true", json={"training": {"optimizer": optimizer}}).status_code == 200


def test_a_stored_configuration_outside_the_bounds_is_read_as_before(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    run_id = add_run()
    optimizer = RunConfig.model_validate({"training": {"optimizer": {**ADAM, "epsilon": 1e-300}}})
    with database.writing() as session:
        session.get_one(Run, run_id).config = optimizer.model_dump(mode="json")
    for path in ("", "/summary", "/layers"):
        assert client.get(f"/runs/{run_id}{path}").status_code < 500, path
    answer = client.post("/runs?dry_run=true", json={"from_run": run_id})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/training/optimizer/epsilon")
