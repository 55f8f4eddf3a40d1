"""Numbers beyond float32: a submission with one is refused; a stored configuration with one stays readable."""

from __future__ import annotations

from typing import Any

import pytest

from app.run_config import RunConfig, complete
from tests.conftest import AddRun, AssertProblem, TestClient

SMALLEST, LARGEST = "1.1754944e-38", "0.99999994"


@pytest.mark.parametrize(
    ("path", "value", "bound"),
    [
        ("training.optimizer.epsilon", 1e-300, "float32"),
        ("training.optimizer.epsilon", 1e-21, "1e-20"),
        ("training.optimizer.epsilon", 1e-20, None),
        ("training.optimizer.learning_rate", 1.1754943e-38, SMALLEST),
        ("training.optimizer.learning_rate", 1.1754944e-38, None),
        ("training.optimizer.beta1", 0.99999998, LARGEST),
        ("training.optimizer.beta2", 0.99999999999, LARGEST),
        ("training.optimizer.beta2", 0.99999994, None),
        ("training.optimizer.beta2", 5e-324, SMALLEST),
        ("training.optimizer.learning_rate", 1e-45, SMALLEST),
        ("training.optimizer.weight_decay", 1e-39, SMALLEST),
        ("training.optimizer.weight_decay", 0, None),
        ("training.early_stopping.min_delta", 1e-320, SMALLEST),
        ("model.dropout", 1e-310, SMALLEST),
        ("split.test_size", 1e-310, SMALLEST),
    ],
)
def test_what_float32_cannot_hold_is_refused_with_the_bound(
    client: TestClient, assert_problem: AssertProblem, path: str, value: float, bound: str | None
) -> None:
    document: dict[str, Any] = {"training": {"optimizer": {"kind": "adam"}, "early_stopping": {"patience": 3}}}
    changed: Any = value
    for name in reversed(path.split(".")):
        changed = {name: changed}
    run = complete(document, changed)
    answers = {
        "#/" + path.replace(".", "/"): client.post("/runs", params={"dry_run": True}, json=run),
        f"#/parameters/{path}/0": client.post(
            "/sweeps", params={"dry_run": True}, json={"base": document, "parameters": {path: [value]}}
        ),
        "#/base/" + path.replace(".", "/"): client.post(
            "/sweeps", params={"dry_run": True}, json={"base": run, "parameters": {"seed": [1]}}
        ),
    }
    for pointer, response in answers.items():
        if bound is None:
            assert response.status_code == 200, response.text
            continue
        (error,) = assert_problem(response, 422, "invalid-input")["errors"]
        assert error["pointer"] == pointer
        assert bound in error["detail"]


def test_a_stored_configuration_beyond_the_bounds_is_read_as_before(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    adam = {"kind": "adam", "epsilon": 1e-300, "beta2": 0.99999999999}
    config = RunConfig.model_validate(complete(RunConfig().model_dump(), {"training": {"optimizer": adam}}))
    run_id = add_run(config)
    assert client.get(f"/runs/{run_id}").json()["config"]["training"]["optimizer"]["epsilon"] == 1e-300
    assert client.get(f"/runs/{run_id}/summary").status_code == 200
    problem = assert_problem(client.post("/runs", json={"from_run": run_id}), 422, "invalid-input")
    assert [error["pointer"] for error in problem["errors"]] == [
        "#/training/optimizer/beta2",
        "#/training/optimizer/epsilon",
    ]
