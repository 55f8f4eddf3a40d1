"""Sweeps over HTTP without a worker: submit, plan, count, cancel, delete; a refused sweep queues nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.database import Database
from app.main import create_app
from app.models import promotion
from app.presets.sweeps import SWEEP_PRESETS
from app.queue import lifecycle
from app.run_config import Mlp, RunConfig
from app.runs import repository
from app.settings import Settings
from app.tables import Event, Metric, Promotion, PromotionReason, Run, RunStatus, SavedModel, Sweep
from tests.conftest import AddRun, AssertProblem, TestClient, counting_statements

GRID = {"name": "grid", "parameters": {"model.hidden_sizes": [[12], [16]], "model.dropout": [0.0, 0.2, 0.4]}}


def submit(client: TestClient, document: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = client.post("/sweeps", json=document, **options)
    assert response.status_code == 202, response.text
    sweep: dict[str, Any] = response.json()
    return sweep


def runs_of(database: Database, sweep_id: str) -> list[Run]:
    with database.reading() as session:
        return list(session.scalars(select(Run).where(Run.sweep_id == sweep_id).order_by(Run.trial_number)))


def finish(database: Database, run_id: str, status: RunStatus = RunStatus.SUCCEEDED, val_accuracy: float = 0.9) -> None:
    """End a run as a worker does."""
    with database.writing() as session:
        run = session.get_one(Run, run_id, with_for_update=True)
        if status is RunStatus.SUCCEEDED:
            run.epoch = run.epochs
            run.best_epoch, run.best_val_accuracy, run.best_val_loss = 1, val_accuracy, 1 - val_accuracy
            config = RunConfig.model_validate(run.config)
            model = {"epoch": 1, "onnx": b"x", "sha256": "0" * 64, "size_bytes": 1, "val_loss": 1 - val_accuracy}
            session.add(
                SavedModel(
                    run_id=run.id,
                    num_parameters=config.num_parameters or 0,
                    train_accuracy=1.0,
                    val_accuracy=val_accuracy,
                    on_canonical_split=config.split.is_canonical,
                    **model,
                )
            )
        lifecycle.end(session, run, status)
        promotion.elect(session)


def test_a_sweep_queues_its_trials_and_its_state_derives_from_them(client: TestClient, database: Database) -> None:
    sweep = submit(client, {**GRID, "repeats": 2, "tags": {"unit": "2"}, "priority": 3, "base": {"seed": 5}})
    assert (sweep["status"], sweep["progress"]["trials"], sweep["progress"]["queued"]) == ("queued", 12, 12)
    runs = runs_of(database, sweep["id"])
    assert [(run.trial_number, run.point_number, run.seed) for run in runs[:3]] == [(0, 0, 5), (1, 0, 6), (2, 1, 5)]
    assert {(run.name, run.priority, run.tags["unit"]) for run in runs} == {("grid", 3, "2")}
    assert runs[-1].config["model"]["hidden_sizes"] == [16]
    assert runs[-1].config["model"]["dropout"] == 0.4
    listed = client.get("/runs", params={"sweep_id": sweep["id"], "limit": 200}).json()["data"]
    assert {run["id"] for run in listed} == {run.id for run in runs}
    events = client.get("/events", params={"sweep_id": sweep["id"]}).json()["data"]
    assert [event["type"] for event in events] == ["sweep_created", *["queued"] * 12]

    with database.writing() as session:
        session.get_one(Run, runs[0].id).started_at = runs[0].created_at
    assert client.get(f"/sweeps/{sweep['id']}").json()["status"] == "running"
    for number, run in enumerate(runs):
        finish(database, run.id, val_accuracy=0.5 + number / 100)
    seen = client.get(f"/sweeps/{sweep['id']}").json()
    assert (seen["status"], seen["progress"]["succeeded"]) == ("succeeded", 12)
    assert seen["progress"]["epochs_done"] == seen["progress"]["epochs"] == 1200
    assert (seen["best"]["run_id"], seen["best"]["point_number"]) == (runs[-1].id, 5)
    assert seen["finished_at"] is not None


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((RunStatus.FAILED, RunStatus.SUCCEEDED), "succeeded"),
        ((RunStatus.FAILED, RunStatus.FAILED), "failed"),
        ((RunStatus.CANCELLED, RunStatus.FAILED), "cancelled"),
    ],
)
def test_how_a_sweep_ends(
    client: TestClient, database: Database, statuses: tuple[RunStatus, ...], expected: str
) -> None:
    sweep = submit(client, {"parameters": {"seed": [1, 2]}})
    for run, status in zip(runs_of(database, sweep["id"]), statuses, strict=True):
        finish(database, run.id, status)
    assert client.get(f"/sweeps/{sweep['id']}").json()["status"] == expected


def test_a_sweep_whose_rest_is_paused_is_paused(client: TestClient, database: Database) -> None:
    sweep = submit(client, {"parameters": {"seed": [1, 2]}})
    first, second = runs_of(database, sweep["id"])
    finish(database, first.id)
    client.post(f"/runs/{second.id}/pause")
    assert client.get(f"/sweeps/{sweep['id']}").json()["status"] == "paused"


def test_a_dry_run_plans_and_queues_nothing(client: TestClient, database: Database, add_run: AddRun) -> None:
    document = {**GRID, "repeats": 5}
    plan = client.post("/sweeps?dry_run=true", json=document).json()
    steps = 30 * 100 * 20  # 30 trials, 100 epochs, 20 batches of 64 out of 1,257
    estimated_bytes = plan["estimated_bytes"]
    assert 30 * 100 * 200 < estimated_bytes < 30 * 500_000
    assert plan == {
        "num_points": 6,
        "num_trials": 30,
        "num_stacks": 1,
        "num_steps": steps,
        "estimated_bytes": estimated_bytes,
        "estimated_seconds": None,
        "hint": plan["hint"],
    }
    assert plan["hint"].startswith("There is no worker")
    config = RunConfig(model=Mlp(hidden_sizes=[16]))
    columns = {"status": RunStatus.SUCCEEDED, "stack_id": "s", "stack_size": 2, "epoch": 100, "training_seconds": 2.0}
    for _ in range(2):
        add_run(config, **columns)
    # Two runs of 100 epochs took 2 s together, so an epoch takes 0.01 s; widths 12 and 16 are padded to the same shape.
    estimated = client.post("/sweeps?dry_run=true", json=document).json()["estimated_seconds"]
    assert estimated == pytest.approx(30 * 100 * 0.01)
    wider = {"parameters": {"model.hidden_sizes": [[128, 64]]}}
    assert client.post("/sweeps?dry_run=true", json=wider).json()["estimated_seconds"] > 1
    with database.reading() as session:
        assert session.scalars(select(Sweep)).all() == []


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "#/parameters"),
        ({"parameters": {"model.dropout": [0.1, "x"]}}, "#/parameters/model.dropout/1"),
        ({"parameters": {"model.dropout": []}}, "#/parameters/model.dropout"),
        ({"parameters": {"model.drop": [0.1]}}, "#/parameters/model.drop/0"),
        ({"parameters": {"seed": list(range(1000)), "training.epochs": list(range(1, 1001))}}, "#/parameters"),
        ({"search": {"kind": "random", "trials": 5000}, "parameters": {"seed": [1]}}, "#/search/trials"),
        ({"search": {"kind": "bayes"}, "parameters": {"seed": [1]}}, "#/search"),
        ({"parameters": {"seed": [1]}, "repeats": 0}, "#/repeats"),
        ({"parameters": {"seed": [1]}, "repeats": 2}, "#/repeats"),
        ({"parameters": {"model.dropout": [0.1]}, "repeats": 2.5}, "#/repeats"),
        ({"parameters": {"model.dropout": [0.1]}, "unknown": 1}, "#/unknown"),
        (
            {"parameters": {"model.dropout": [0.1]}, "base": {"model": {"hidden_sizes": [0]}}},
            "#/base/model/hidden_sizes/0",
        ),
        ({"parameters": {"model.dropout": [0.1]}, "base": {"epochs": 3}}, "#/base/epochs"),
        ({"parameters": {"model.dropout": [0.1]}, "cross_validation": {"folds": 1}}, "#/cross_validation/folds"),
        (
            {
                "parameters": {"model.dropout": [0.1]},
                "cross_validation": {"folds": 3},
                "base": {"training": {"early_stopping": {"patience": 3}}},
            },
            "#/base/training/early_stopping",
        ),
        (
            {"parameters": {"training.early_stopping": [{"patience": 3}]}, "cross_validation": {"folds": 3}},
            "#/parameters/training.early_stopping/0",
        ),
        (  # 1,257 images are 20 steps of 64, the 838 of a fold's train split 14
            {
                "parameters": {"model.dropout": [0.1]},
                "base": {"training": {"epochs": 5, "schedule": {"kind": "cosine", "warmup_steps": 70}}},
                "cross_validation": {"folds": 3},
            },
            "#/parameters/model.dropout/0",
        ),
        (
            {
                "parameters": {"training.schedule": [{"kind": "cosine", "warmup_steps": 1400}]},
                "cross_validation": {"folds": 3},
            },
            "#/parameters/training.schedule/0",
        ),
        (
            {"parameters": {"split.fold": [{"number": 0, "of": 3}]}, "cross_validation": {"folds": 3}},
            "#/parameters/split.fold/0",
        ),
        (
            {
                "parameters": {"model.dropout": [0.1]},
                "cross_validation": {"folds": 3},
                "base": {"split": {"fold": {"number": 0, "of": 3}}},
            },
            "#/base/split/fold",
        ),
        (
            {"parameters": {"seed": [1]}, "cross_validation": {"folds": 3}, "stopping": {"kind": "successive_halving"}},
            "#/stopping",
        ),
        (
            {
                "parameters": {"model.n_estimators": [5]},
                "base": {"model": {"kind": "random_forest"}},
                "stopping": {"kind": "successive_halving"},
            },
            "#/parameters/model.n_estimators/0",
        ),
        (
            {"base": {"model": {"kind": "ensemble", "members": ["a", "b"]}}, "parameters": {"seed": [1, 2]}},
            "#/base/model/kind",
        ),
        (
            {"search": {"kind": "list"}, "points": [{}, {"model": {"kind": "ensemble", "members": ["a", "b"]}}]},
            "#/points/1/model",
        ),
        ({"preset": 5}, "#/preset"),
    ],
)
def test_what_is_malformed_is_pointed_at_and_queues_nothing(
    client: TestClient, database: Database, assert_problem: AssertProblem, document: dict[str, Any], pointer: str
) -> None:
    body = assert_problem(client.post("/sweeps", json=document), 422, "invalid-input")
    assert pointer in [error["pointer"] for error in body["errors"]]
    with database.reading() as session:
        assert session.scalars(select(Sweep)).all() == []
        assert session.scalars(select(Run)).all() == []


def test_presets_are_valid_and_can_be_overridden(client: TestClient, assert_problem: AssertProblem) -> None:
    numbers = {}
    for name in SWEEP_PRESETS:
        assert client.get(f"/presets/{name}").json()["kind"] == "sweep"
        numbers[name] = client.post("/sweeps?dry_run=true", json={"preset": name}).json()["num_trials"]
    assert (numbers["learning-rates"], numbers["practice"], numbers["dropout"]) == (4, 96, 60)
    assert numbers["handwriting-cv"] == 12 * 5
    shorter = {"preset": "practice", "base": {"training": {"epochs": 3}}, "parameters": {"seed": [1, 2]}}
    sweep = submit(client, shorter)
    assert (sweep["progress"]["trials"], sweep["progress"]["epochs"]) == (2, 6)
    assert sweep["base"]["training"]["batch_size"] == 20
    assert_problem(client.post("/sweeps", json={"preset": "nope"}), 404, "preset-not-found")


def test_the_same_key_and_body_answer_the_same_sweep(
    client: TestClient, database: Database, assert_problem: AssertProblem
) -> None:
    headers = {"Idempotency-Key": "a"}
    first = submit(client, GRID, headers=headers)
    assert submit(client, GRID, headers=headers)["id"] == first["id"]
    other = client.post("/sweeps", json={**GRID, "name": "other"}, headers=headers)
    assert_problem(other, 422, "idempotency-key-reused")
    with database.reading() as session:
        assert len(session.scalars(select(Run)).all()) == 6


def test_a_sweep_that_does_not_fit_into_the_queue_is_refused_whole(
    settings: Settings, database: Database, assert_problem: AssertProblem
) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_queued_runs": 5}))) as client:
        assert_problem(client.post("/sweeps", json=GRID), 429, None)
    with database.reading() as session:
        assert session.scalars(select(Run)).all() == []


def test_cancelling_ends_what_is_queued_and_asks_what_is_running(
    client: TestClient, database: Database, assert_problem: AssertProblem
) -> None:
    sweep = submit(client, GRID)
    runs = runs_of(database, sweep["id"])
    finish(database, runs[0].id)
    with database.writing() as session:
        running = session.get_one(Run, runs[1].id)
        running.status, running.started_at = RunStatus.RUNNING, running.created_at
    response = client.post(f"/sweeps/{sweep['id']}/cancel")
    assert response.status_code == 202
    assert (response.json()["status"], response.json()["progress"]["cancelled"]) == ("running", 4)
    assert runs_of(database, sweep["id"])[1].cancel_requested
    finish(database, runs[1].id, RunStatus.CANCELLED)
    response = client.post(f"/sweeps/{sweep['id']}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")

    other = submit(client, {"parameters": {"seed": [1]}})
    finish(database, runs_of(database, other["id"])[0].id)
    assert_problem(client.post(f"/sweeps/{other['id']}/cancel"), 409, "sweep-finished")
    assert_problem(client.post("/sweeps/nope/cancel"), 404, "sweep-not-found")


def test_deleting_takes_the_trials_along(client: TestClient, database: Database, assert_problem: AssertProblem) -> None:
    sweep = submit(client, {"parameters": {"seed": [1, 2]}})
    assert_problem(client.delete(f"/sweeps/{sweep['id']}"), 409, "sweep-not-finished")
    first, second = runs_of(database, sweep["id"])
    finish(database, first.id, val_accuracy=0.9)
    finish(database, second.id, val_accuracy=0.8)
    assert_problem(client.delete(f"/runs/{first.id}"), 409, "trial-of-a-sweep")
    with database.writing() as session:
        session.add(Promotion(run_id=first.id, reason=PromotionReason.PINNED))
    assert_problem(client.delete(f"/sweeps/{sweep['id']}"), 409, "pinned-champion")
    with database.writing() as session:
        session.add(Promotion(run_id=second.id, reason=PromotionReason.AUTOMATIC))
    assert client.delete(f"/sweeps/{sweep['id']}").status_code == 204
    assert_problem(client.get(f"/sweeps/{sweep['id']}"), 404, "sweep-not-found")
    for _ in range(2):  # deletes the runs, then the sweep
        with database.writing() as session:
            repository.purge_deleted(session, 1000)
    with database.reading() as session:
        assert [session.scalars(select(table)).all() for table in (Run, Sweep, SavedModel, Metric)] == [[]] * 4
        assert {event.type.value for event in session.scalars(select(Event))} == {"deleted", "sweep_deleted"}


def test_sweeps_are_listed_newest_first_by_pages(client: TestClient) -> None:
    ids = [submit(client, {"parameters": {"seed": [number]}})["id"] for number in range(3)]
    page = client.get("/sweeps", params={"limit": 2}).json()
    assert [sweep["id"] for sweep in page["data"]] == [ids[2], ids[1]]
    rest = client.get("/sweeps", params={"limit": 2, "after": page["next"]}).json()
    assert ([sweep["id"] for sweep in rest["data"]], rest["has_more"]) == ([ids[0]], False)


def test_folds_are_trained_to_the_end_and_keep_their_last_weights(client: TestClient, database: Database) -> None:
    sweep = submit(client, {"parameters": {"model.dropout": [0.0, 0.2]}, "cross_validation": {"folds": 3}})
    runs = runs_of(database, sweep["id"])
    assert [(run.point_number, run.fold) for run in runs] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert {run.config["training"]["keep"] for run in runs} == {"last"}
    assert {RunConfig.model_validate(run.config).split.is_canonical for run in runs} == {False}


def test_the_last_fold_queues_the_chosen_point_once_in_its_transaction(client: TestClient, database: Database) -> None:
    document = {
        "name": "cv",
        "parameters": {"model.hidden_sizes": [[64], [12], [32]]},
        "cross_validation": {"folds": 3},
        "base": {"seed": 9},
        "priority": 4,
    }
    sweep = submit(client, document)
    # Width 64 is best with 0.92 ± 0.0115. Width 32 is smaller and within one standard error of it; width 12 is not.
    accuracies = [0.90, 0.92, 0.94, 0.70, 0.72, 0.74, 0.91, 0.91, 0.91]
    *others, last = zip(runs_of(database, sweep["id"]), accuracies, strict=True)
    for run, accuracy in others:
        finish(database, run.id, val_accuracy=accuracy)
    assert len(runs_of(database, sweep["id"])) == 9
    finish(database, last[0].id, val_accuracy=last[1])
    final = runs_of(database, sweep["id"])[9]
    assert (final.point_number, final.fold, final.status, final.trial_number) == (2, None, RunStatus.QUEUED, 9)
    assert final.config["split"]["fold"] is None
    assert (final.config["model"]["hidden_sizes"], final.config["training"]["keep"]) == ([32], "last")
    assert (final.seed, final.priority, final.name) == (9, 4, "cv")
    seen = client.get(f"/sweeps/{sweep['id']}").json()
    assert (seen["status"], seen["final_run_id"], seen["best"]) == ("running", final.id, None)
    choice = client.get(f"/sweeps/{sweep['id']}/report").json()["choice"]
    assert (choice["point_number"], choice["final_val_accuracy"]) == (2, None)
    finish(database, final.id, val_accuracy=0.77)
    report = client.get(f"/sweeps/{sweep['id']}/report").json()
    assert (report["status"], report["choice"]["final_val_accuracy"]) == ("succeeded", 0.77)
    assert len(report["trials"]) == 9, "the final run takes no part in the ranking"
    assert len(runs_of(database, sweep["id"])) == 10


def test_without_a_complete_point_nothing_is_chosen(client: TestClient, database: Database) -> None:
    sweep = submit(client, {"parameters": {"model.dropout": [0.0]}, "cross_validation": {"folds": 2}})
    first, second = runs_of(database, sweep["id"])
    finish(database, first.id)
    finish(database, second.id, RunStatus.FAILED)
    seen = client.get(f"/sweeps/{sweep['id']}").json()
    assert (seen["status"], seen["final_run_id"]) == ("failed", None)


def test_a_cancelled_sweep_chooses_nothing(client: TestClient, database: Database) -> None:
    sweep = submit(client, {"parameters": {"model.dropout": [0.0, 0.1]}, "cross_validation": {"folds": 2}})
    for run in runs_of(database, sweep["id"])[:2]:
        finish(database, run.id)
    assert client.post(f"/sweeps/{sweep['id']}/cancel").json()["status"] == "cancelled"
    assert len(runs_of(database, sweep["id"])) == 4


def test_a_report_before_anything_has_ended(client: TestClient) -> None:
    sweep = submit(client, GRID)
    report = client.get(f"/sweeps/{sweep['id']}/report").json()
    assert (report["noise"], report["pareto"], report["choice"]) == (None, [], None)
    assert {trial["rank"] for trial in report["trials"]} == {None}
    assert len(client.get(f"/sweeps/{sweep['id']}/report?format=csv").text.splitlines()) == 7
    picture = client.get(f"/sweeps/{sweep['id']}/report.png")
    assert picture.content.startswith(b"\x89PNG")
    known = {"If-None-Match": picture.headers["etag"]}
    assert client.get(f"/sweeps/{sweep['id']}/report.png", headers=known).status_code == 304


def test_points_are_left_out_of_lists_and_on_request(client: TestClient) -> None:
    sweep = submit(client, GRID)
    assert (sweep["num_points"], len(sweep["points"])) == (6, 6)
    without = {**sweep, "points": None}
    url = f"/sweeps/{sweep['id']}"
    assert client.get("/sweeps").json()["data"] == [without]
    assert client.get("/sweeps?points=true").json()["data"] == [sweep]
    assert client.get(f"{url}?points=false").json() == without
    assert client.get(url).json() == sweep


def test_a_report_that_a_client_has_is_not_sent_again_until_a_trial_changes(
    client: TestClient, database: Database
) -> None:
    sweep = submit(client, {"parameters": {"seed": [1, 2, 3]}})
    url, runs = f"/sweeps/{sweep['id']}/report", runs_of(database, sweep["id"])

    def start() -> None:
        with database.writing() as session:
            run = session.get_one(Run, runs[1].id)
            run.status, run.claim_number, run.started_at = RunStatus.RUNNING, 1, run.created_at

    def advance() -> None:
        with database.writing() as session:
            session.get_one(Run, runs[1].id).epoch += 1

    def evaluate_later() -> None:
        with database.writing() as session:
            session.get_one(Run, runs[0].id).test_accuracy = 0.5

    etags: list[str] = []
    changes = (
        lambda: None,
        lambda: finish(database, runs[0].id),
        start,
        advance,
        evaluate_later,
        lambda: finish(database, runs[1].id, RunStatus.FAILED),
        lambda: client.post(f"/sweeps/{sweep['id']}/cancel"),
    )
    for change in changes:
        change()
        response = client.get(url, headers={"If-None-Match": etags[-1]} if etags else {})
        assert response.status_code == 200
        etags.append(response.headers["etag"])
        assert etags[-1].startswith('W/"')
        with counting_statements(client.app.state.database, "metrics") as statements:  # type: ignore[attr-defined]
            known = client.get(url, headers={"If-None-Match": f'"other", {etags[-1]}'})
        assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etags[-1])
        assert known.headers["vary"] == "Accept"
        assert not statements, "the report was not made"
    assert len(set(etags)) == len(changes)
    others = {client.get(url, params=params).headers["etag"] for params in ({"format": "csv"}, {"trials": "false"})}
    assert len(others | {etags[-1]}) == 3


def test_a_report_in_which_two_trials_change_places_is_another_one(client: TestClient, database: Database) -> None:
    sweep = submit(client, {"parameters": {"seed": [1, 2]}})
    first, second = runs_of(database, sweep["id"])
    client.post(f"/runs/{first.id}/pause")
    before = client.get(f"/sweeps/{sweep['id']}/report")
    client.post(f"/runs/{first.id}/resume")
    client.post(f"/runs/{second.id}/pause")
    after = client.get(f"/sweeps/{sweep['id']}/report", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert before.json() != after.json()


def test_a_report_may_leave_out_the_trials(client: TestClient) -> None:
    sweep = submit(client, GRID)
    url = f"/sweeps/{sweep['id']}/report"
    full, short = client.get(url).json(), client.get(f"{url}?trials=false").json()
    assert len(full["trials"]) == 6
    assert short == {**full, "trials": None}
    assert full["answer"] == "No trial has succeeded yet."
