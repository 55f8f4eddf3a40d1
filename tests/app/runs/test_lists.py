"""`GET /runs`: its filters and counts; and the plan of a dry run."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database
from app.run_config import Ensemble, Mlp, RandomForest, RunConfig, Training
from app.runs import speed
from app.runs.filters import RunFilters
from app.tables import Run, RunStatus, new_id
from tests.conftest import AddRun, AssertProblem, TestClient

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
QUEUED, RUNNING, FAILED, SUCCEEDED = RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.SUCCEEDED


def names(client: TestClient, **params: Any) -> list[str]:
    response = client.get("/runs", params={"sort": "name", **params})
    assert response.status_code == 200, response.text
    return [run["name"] for run in response.json()["data"]]


@pytest.fixture
def added(add_run: AddRun) -> dict[str, str]:
    """Add runs; return their ids by name."""
    rows: list[dict[str, Any]] = [
        {"name": "a wide", "status": SUCCEEDED, "tags": {"unit": "2", "place": "Zürich"}},
        {"name": "b narrow", "status": FAILED, "notes": "Learning rate TOO high: 100%"},
        {"name": "c wide", "status": RUNNING, "tags": {"unit": "3"}},
        {"name": "d trial", "status": SUCCEEDED, "sweep_id": "sweep"},
        {"name": "e trial", "status": QUEUED, "sweep_id": "sweep"},
        {"name": "f_under", "status": QUEUED},
    ]
    return {row["name"]: add_run(**row) for row in rows}


def test_several_statuses_and_ids(client: TestClient, added: dict[str, str]) -> None:
    assert names(client, status="failed") == ["b narrow"]
    assert names(client, status=["failed", "running", "failed"]) == ["b narrow", "c wide"]
    ids = [added["f_under"], added["a wide"], "nothing-there", added["a wide"]]
    assert names(client, id=ids) == ["a wide", "f_under"]
    assert names(client, id=ids, status="queued") == ["f_under"]
    assert names(client, id="nothing-there") == []


def test_what_is_no_trial(client: TestClient, added: dict[str, str]) -> None:
    assert names(client, sweep_id="none") == ["a wide", "b narrow", "c wide", "f_under"]
    assert names(client, sweep_id="sweep") == ["d trial", "e trial"]
    assert len(added) == len(names(client)) == 6


def test_every_word_occurs_somewhere(client: TestClient, added: dict[str, str]) -> None:
    found = {
        "wide": "ac",
        "WIDE": "ac",
        f"wide  {added['a wide']}": "a",
        added["c wide"].upper(): "c",
        "too": "b",
        "100%": "b",
        "%": "b",
        "_": "f",
        "unit": "ac",
        "unit:3": "c",
        "Zürich": "a",
        "trial unit": "",
        '":': "",
        "\\": "",
        "": "abcdef",
        "  ": "abcdef",
    }
    for q, expected in found.items():
        assert (q, [name[0] for name in names(client, q=q)]) == (q, list(expected))


def test_counts_are_those_of_all_statuses_and_of_all_pages(client: TestClient, added: dict[str, str]) -> None:
    assert client.get("/runs").json()["counts"] is None
    page = client.get("/runs", params={"counts": "true", "limit": 1}).json()
    assert page["counts"] == {
        "queued": 2, "running": 1, "paused": 0, "succeeded": 2, "failed": 1, "cancelled": 0, "total": len(added),
    }  # fmt: skip
    assert (len(page["data"]), page["has_more"]) == (1, True)
    wanted = {"counts": "true", "status": "failed", "sweep_id": "none", "q": "wide"}
    page = client.get("/runs", params=wanted).json()
    assert page["data"] == []
    assert {name: number for name, number in page["counts"].items() if number} == {
        "succeeded": 1, "running": 1, "total": 2,
    }  # fmt: skip
    assert client.delete(f"/runs/{added['b narrow']}").status_code == 204
    assert client.get("/runs?counts=true").json()["counts"]["failed"] == 0


def test_filters_hold_on_every_page(client: TestClient, added: dict[str, str]) -> None:
    found, after = [], None
    while True:
        params: dict[str, Any] = {"status": ["succeeded", "queued"], "limit": 1, "sort": "-name", "counts": True}
        page = client.get("/runs", params=params | ({"after": after} if after else {})).json()
        assert page["counts"]["total"] == len(added)
        found += [run["name"] for run in page["data"]]
        if not (after := page["next"]):
            break
    assert found == ["f_under", "e trial", "d trial", "a wide"]


@on_sqlite
def test_what_is_no_filter_is_refused(client: TestClient, assert_problem: AssertProblem) -> None:
    for query, pointer in (
        ("status=failed&status=lost", "?status"),
        ("q=" + "x" * 201, "?q"),
        ("q=%00", "?q"),
        ("&".join(["status=failed"] * 7), "?status"),
        ("&".join(["id=x"] * 201), "?id"),
        ("counts=some", "?counts"),
    ):
        body = assert_problem(client.get(f"/runs?{query}"), 422, "invalid-input")
        assert body["errors"][0]["pointer"].startswith(pointer), query
    assert client.get("/runs?q=" + "%20".join("abcdefgh"[:2] for _ in range(66))).status_code == 200


def end(database: Database, run_id: str, seconds: float, **columns: Any) -> None:
    with database.writing() as session:
        run = session.get_one(Run, run_id)
        values = {"status": SUCCEEDED, "epoch": run.epochs, "training_seconds": seconds, "stack_size": 1, **columns}
        for name, value in values.items():
            setattr(run, name, value)


def plan(client: TestClient, document: dict[str, Any]) -> float | None:
    response = client.post("/runs?dry_run=true", json=document)
    assert response.status_code == 200, response.text
    seconds: float | None = response.json()["estimated_seconds"]
    return seconds


def test_a_plan_says_how_long_it_takes_by_runs_that_trained_alone(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    assert plan(client, {}) is None
    config = RunConfig()
    end(database, add_run(config), 600.0, stack_id="shared", stack_size=60)
    assert plan(client, {}) is None, "a stack of many runs says little about one alone"
    for number, seconds in enumerate((1.0, 2.0, 9.0)):
        end(database, add_run(config), seconds, stack_id=f"alone{number}")
    assert plan(client, {}) == pytest.approx(2.0), "the median"
    assert plan(client, {"training": {"epochs": 10 * config.epochs}}) == pytest.approx(20.0)
    wider = plan(client, {"model": {"hidden_sizes": [512, 512]}})
    assert wider is not None
    assert wider > 4.0, "an unknown shape takes as long as its work does"
    forest = RunConfig(model=RandomForest(kind="random_forest"), scaling=None, training=None)
    end(database, add_run(forest), 0.5, stack_id=None, stack_size=None)
    assert plan(client, {"model": {"kind": "random_forest"}}) == pytest.approx(0.5)


@on_sqlite
def test_only_so_many_earlier_runs_are_read(
    database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "NUM_EARLIER_ALONE", 2)
    config = RunConfig(model=Mlp(hidden_sizes=[8]), training=Training(epochs=10))
    for number, seconds in enumerate((100.0, 1.0, 3.0)):
        end(database, add_run(config), seconds, stack_id=str(number))
    with database.reading() as session:
        assert speed.estimate_alone(session, config) == pytest.approx(2.0)


@on_sqlite
def test_an_ensemble_is_not_trained_and_has_no_estimate(database: Database, add_run: AddRun) -> None:
    end(database, add_run(), 1.0)
    members = [new_id(), new_id()]
    config = RunConfig(model=Ensemble(kind="ensemble", members=members), scaling=None, training=None)
    with database.reading() as session:
        assert speed.estimate_alone(session, RunConfig()) == pytest.approx(1.0)
        assert speed.estimate_alone(session, config) is None


def test_a_word_that_comes_several_times_is_looked_for_once() -> None:
    assert len(RunFilters(text="a b a  a").conditions()) == 2


@on_sqlite
def test_the_defaults_are_a_preset(client: TestClient) -> None:
    defaults = client.get("/presets/defaults").json()
    assert (defaults["kind"], defaults["config"]) == ("run", RunConfig().model_dump(mode="json"))
    plans = [
        client.post("/runs?dry_run=true", json=document).json()["config"] for document in ({}, {"preset": "defaults"})
    ]
    assert plans == [defaults["config"]] * 2
