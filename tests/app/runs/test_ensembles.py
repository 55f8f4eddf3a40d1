"""Ensembles over HTTP, without a worker: what may be a member, what is filled in, and what has no meaning for them."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database
from app.main import create_app
from app.run_config import RunConfig, complete
from app.run_costs import estimated_bytes
from app.settings import Settings
from app.tables import RunStatus
from tests.conftest import AddModel, AddRun, AssertProblem, TestClient, get_run

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

SMALL = {"val_size": 0.2, "test_size": 0.1, "seed": 5, "fold": None}


def config(**fields: Any) -> RunConfig:
    return RunConfig.model_validate(complete(RunConfig().model_dump(), fields))


def ensemble(*members: str, **fields: Any) -> dict[str, Any]:
    return {"model": {"kind": "ensemble", "members": list(members)}, **fields}


@pytest.fixture
def members(add_model: AddModel) -> list[str]:
    return [add_model(config=config(split=SMALL, seed=seed)) for seed in range(3)]


def test_an_ensemble_takes_split_and_sizes_from_its_members(
    client: TestClient, database: Database, members: list[str]
) -> None:
    plan = client.post("/runs?dry_run=true", json=ensemble(*members)).json()
    assert (plan["num_parameters"], plan["num_steps"]) == (3 * 610, None)
    sizes = [model["size_bytes"] for model in client.get("/models").json()["data"]]
    bare = estimated_bytes(RunConfig.model_validate(plan["config"]))
    assert len(sizes) == 3
    assert plan["estimated_bytes"] == bare + sum(sizes)
    response = client.post("/runs", json=ensemble(*members, name="all", seed=7))
    assert response.status_code == 202, response.text
    run = response.json()
    assert run["config"] == {
        "seed": 7,
        "device": "auto",
        "dataset": "digits",
        "split": SMALL,
        "model": {"kind": "ensemble", "members": members},
        "scaling": None,
        "training": None,
    }
    assert (run["model_kind"], run["status"], run["name"], run["num_parameters"]) == ("ensemble", "queued", "all", 1830)
    assert run["progress"]["epochs"] == 1
    row = get_run(database, run["id"])
    assert (row.epochs, row.stack_key, row.seed) == (1, None, 7)
    listed = client.get("/runs", params={"model_kind": "ensemble"}).json()["data"]
    assert [each["id"] for each in listed] == [run["id"]]


def test_the_same_split_may_be_sent_and_another_one_is_pointed_at(
    client: TestClient, members: list[str], assert_problem: AssertProblem
) -> None:
    for split in (SMALL, {"seed": 5}, {"val_size": 0.2, "fold": None}):
        sent = client.post("/runs?dry_run=true", json=ensemble(*members, split=split, dataset="digits"))
        assert sent.json()["config"]["split"] == SMALL
    wrong = ensemble(*members, split={"seed": 6, "test_size": 0.1, "val_size": 0.3})
    body = assert_problem(client.post("/runs", json=wrong), 422, "invalid-input")
    assert [error["pointer"] for error in body["errors"]] == ["#/split/seed", "#/split/val_size"]
    assert "The members were trained with 5" in body["detail"]
    on_fold = ensemble(*members, split={"fold": {"number": 0, "of": 5}})
    body = assert_problem(client.post("/runs", json=on_fold), 422, "invalid-input")
    assert [error["pointer"] for error in body["errors"]] == ["#/split/fold"]


def test_what_cannot_be_a_member_is_named_with_its_reason(
    client: TestClient, members: list[str], add_model: AddModel, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    fold = config(split={**SMALL, "fold": {"number": 0, "of": 5}})
    unfit = {
        add_model(config=config(model={"kind": "random_forest"}, split=SMALL)): "it is of kind random_forest",
        add_run(config(split=SMALL)): "it is queued",
        add_run(config(split=SMALL), status=RunStatus.FAILED): "it is failed",
        add_run(config(split=SMALL), status=RunStatus.SUCCEEDED): "it has no saved model",
        add_model(config=config()): f"it was trained on another split than run {members[0]}",
        client.post("/runs", json=ensemble(*members)).json()["id"]: "it is of kind ensemble",
        add_run(fold, status=RunStatus.SUCCEEDED, fold=0): "it was trained on a fold",
    }
    num_runs = len(client.get("/runs").json()["data"])
    for run_id, reason in unfit.items():
        body = assert_problem(client.post("/runs", json=ensemble(members[0], run_id)), 409, "unfit-member")
        assert reason in body["detail"]
        assert [error["pointer"] for error in body["errors"]] == ["#/model/members/1"]
        assert run_id in body["errors"][0]["detail"]
        assert_problem(client.post("/runs?dry_run=true", json=ensemble(members[0], run_id)), 409, "unfit-member")
    several = assert_problem(client.post("/runs", json=ensemble(*unfit, members[0])), 409, "unfit-member")
    places = [error["pointer"] for error in several["errors"]]
    assert places == [f"#/model/members/{number}" for number in (0, 1, 2, 3, 5, 6, 7)]
    assert several["detail"].endswith("(6 more)")
    unknown = assert_problem(client.post("/runs", json=ensemble("nope", members[0], "no")), 404, "run-not-found")
    assert [error["pointer"] for error in unknown["errors"]] == ["#/model/members/0", "#/model/members/2"]
    assert unknown["detail"] == "There is no run nope. (1 more)"
    assert client.delete(f"/runs/{members[0]}").status_code == 204
    assert_problem(client.post("/runs", json=ensemble(*members)), 404, "run-not-found")
    assert len(client.get("/runs").json()["data"]) == num_runs - 1


@on_sqlite
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"model": {"kind": "ensemble", "members": ["a", "b", "a"]}}, "#/model/members/2"),
        ({"model": {"kind": "ensemble", "members": ["a"]}}, "#/model/members"),
        ({"model": {"kind": "ensemble", "members": [f"run {number}" for number in range(11)]}}, "#/model/members"),
        ({"model": {"kind": "ensemble", "members": ["a", 5]}}, "#/model/members/1"),
        ({"model": {"kind": "ensemble", "members": ["a", ""]}}, "#/model/members/1"),
        ({"model": {"kind": "ensemble"}}, "#/model/members"),
        ({"model": {"kind": "ensemble", "members": ["a", "b"], "dropout": 0.1}}, "#/model/dropout"),
        ({**ensemble("a", "b"), "scaling": "unit"}, "#/scaling"),
        ({**ensemble("a", "b"), "training": {"epochs": 3}}, "#/training"),
        ({**ensemble("a", "b"), "split": {"val_size": 3}}, "#/split/val_size"),
    ],
)
def test_a_malformed_ensemble_is_pointed_at(
    client: TestClient, assert_problem: AssertProblem, fields: dict[str, Any], pointer: str
) -> None:
    body = assert_problem(client.post("/runs", json=fields), 422, "invalid-input")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


@on_sqlite
def test_an_ensemble_starts_from_another_run_and_another_run_from_an_ensemble(
    client: TestClient, members: list[str], assert_problem: AssertProblem
) -> None:
    first = client.post("/runs", json=ensemble(*members, seed=3)).json()
    again = client.post("/runs", json={"from_run": first["id"]}).json()
    assert again["config"] == first["config"]
    fewer = client.post("/runs", json={"from_run": first["id"], "model": {"members": members[:2]}}).json()
    assert fewer["config"] == {**first["config"], "model": {"kind": "ensemble", "members": members[:2]}}
    other_split = client.post("/runs", json={"seed": 1, "split": {"seed": 99}}).json()["id"]
    based = client.post("/runs", json={"from_run": other_split, **ensemble(*members)}).json()
    assert (based["config"]["split"], based["config"]["training"], based["seed"]) == (SMALL, None, 1)
    assert client.post("/runs", json={"preset": "dropout-tanh", **ensemble(*members)}).status_code == 202
    network = client.post("/runs", json={"from_run": first["id"], "model": {"kind": "mlp"}}).json()["config"]
    assert (network["split"], network["scaling"], network["training"]["epochs"]) == (SMALL, "unit", 100)
    forest = client.post("/runs", json={"from_run": first["id"], "model": {"kind": "random_forest"}}).json()["config"]
    assert (forest["split"], forest["scaling"], forest["training"]) == (SMALL, None, None)
    whole = client.post("/runs", json=first["config"]).json()
    assert whole["config"] == first["config"], "the configuration of a run is a document that makes the same run"
    sweep = {"base": {"from_run": first["id"]}, "parameters": {"seed": [1, 2]}}
    body = assert_problem(client.post("/sweeps", json=sweep), 422, "invalid-input")
    assert "submit it as a run" in body["detail"]


def test_an_ensemble_is_submitted_once_for_a_key(
    client: TestClient, members: list[str], assert_problem: AssertProblem
) -> None:
    headers = {"Idempotency-Key": "once"}
    ids = {client.post("/runs", json=ensemble(*members), headers=headers).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    assert client.delete(f"/runs/{members[0]}").status_code == 204
    again = client.post("/runs", json=ensemble(*members), headers=headers)
    assert {again.json()["id"]} == ids, "the key answers, though a member is gone"
    other = client.post("/runs", json=ensemble(*members[1:]), headers=headers)
    assert_problem(other, 422, "idempotency-key-reused")


@on_sqlite
def test_members_sizes_count_for_the_disk_quota(
    settings: Settings, members: list[str], client: TestClient, assert_problem: AssertProblem
) -> None:
    size = settings.data_dir.joinpath("digitlab.db").stat().st_size
    estimated = client.post("/runs?dry_run=true", json=ensemble(*members)).json()["estimated_bytes"]
    with TestClient(create_app(settings.model_copy(update={"disk_quota_bytes": size}))) as small:
        body = assert_problem(small.post("/runs", json=ensemble(*members)), 507, "disk-quota-exceeded")
    assert f"{estimated:,}" in body["detail"]


def test_routes_for_networks_name_the_members_and_the_summary_lists_them(
    client: TestClient, members: list[str], assert_problem: AssertProblem
) -> None:
    run_id = client.post("/runs", json=ensemble(*members)).json()["id"]
    for path in ("weights", "weights.png", "gradients.png"):
        body = assert_problem(client.get(f"/runs/{run_id}/{path}"), 409, "no-weights")
        assert "is an ensemble" in body["detail"]
        assert all(member in body["detail"] for member in members)
    body = assert_problem(client.get(f"/runs/{run_id}/checkpoints/last"), 404, "checkpoint-not-found")
    assert "an ensemble has none" in body["detail"]
    assert client.get(f"/runs/{run_id}/checkpoints").json()["data"] == []
    body = assert_problem(client.get(f"/runs/{run_id}/confusion"), 404, "saved-model-not-found")
    assert "is queued, at epoch 0 of 1" in body["detail"]
    assert client.delete(f"/runs/{members[1]}").status_code == 204
    summary = client.get(f"/runs/{run_id}/summary").json()
    assert [(layer["name"], layer["kind"]) for layer in summary["layers"]] == [
        ("member1", "member"), ("member2", "member"), ("member3", "member"), ("mean", "mean"),
    ]  # fmt: skip
    notes = [layer["note"] for layer in summary["layers"]]
    assert notes[:3] == [f"run {members[0]}", f"run {members[1]}, deleted", f"run {members[2]}"]
    assert (summary["num_parameters"], summary["size_bytes"]) == (1830, 4 * 1830)
    text = client.get(f"/runs/{run_id}/summary", headers={"Accept": "text/plain"}).text
    assert f"run {members[2]}" in text


@on_sqlite
def test_a_picture_s_labels_count_members_instead_of_naming_them(client: TestClient, members: list[str]) -> None:
    from app.results.service import distinguishing_labels
    from app.tables import Run

    runs = [
        Run(id=f"id{number}", name="", config=client.post("/runs", json=ensemble(*members[:number])).json()["config"])
        for number in (2, 3)
    ]
    assert distinguishing_labels(runs) == ["members 2 runs", "members 3 runs"]


def test_an_ensemble_is_paused_resumed_cancelled_and_deleted(client: TestClient, members: list[str]) -> None:
    run_id = client.post("/runs", json=ensemble(*members)).json()["id"]
    states = [client.post(f"/runs/{run_id}/{what}").json()["status"] for what in ("pause", "resume", "cancel")]
    assert states == ["paused", "queued", "cancelled"]
    assert client.delete(f"/runs/{run_id}").status_code == 204
    assert client.get(f"/runs/{run_id}").status_code == 404
