"""What a client can do with a run in each of its states; repeating a request does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.database import Database
from app.models import promotion
from app.queue import lifecycle
from app.runs import repository
from app.tables import Checkpoint, Event, Metric, Promotion, PromotionReason, Run, RunStatus, SavedModel
from tests.conftest import AddRun, AssertProblem, TestClient, claim_stack, get_run

RUNNING = RunStatus.RUNNING


def add_in_state(database: Database, add_run: AddRun, status: RunStatus) -> str:
    run_id = add_run()
    with database.writing() as session:
        run = session.get_one(Run, run_id)
        if status is RUNNING:
            claim_stack(session, worker="w", devices=["auto"], lease_seconds=3600, max_stack_bytes=0)
        elif status is RunStatus.PAUSED:
            lifecycle.pause(session, run)
        elif status.is_finished():
            lifecycle.end(session, run, status)
    return run_id


# Request and state of the run: the response's status, the state afterwards, and the request that is then pending.
REQUESTS: dict[tuple[str, str], tuple[int, str, str | None]] = {
    ("cancel", "queued"): (200, "cancelled", None),
    ("cancel", "running"): (202, "running", "cancel"),
    ("cancel", "paused"): (200, "cancelled", None),
    ("cancel", "succeeded"): (409, "succeeded", None),
    ("cancel", "failed"): (409, "failed", None),
    ("cancel", "cancelled"): (200, "cancelled", None),
    ("pause", "queued"): (200, "paused", None),
    ("pause", "running"): (202, "running", "pause"),
    ("pause", "paused"): (200, "paused", None),
    ("pause", "succeeded"): (409, "succeeded", None),
    ("pause", "failed"): (409, "failed", None),
    ("pause", "cancelled"): (409, "cancelled", None),
    ("resume", "queued"): (200, "queued", None),
    ("resume", "running"): (200, "running", None),
    ("resume", "paused"): (200, "queued", None),
    ("resume", "succeeded"): (409, "succeeded", None),
    ("resume", "failed"): (409, "failed", None),
    ("resume", "cancelled"): (409, "cancelled", None),
}


@pytest.mark.parametrize(("request_name", "status"), REQUESTS)
def test_a_request_in_a_state_does_what_it_says_and_can_be_repeated(
    client: TestClient, database: Database, add_run: AddRun, request_name: str, status: str
) -> None:
    code, expected, pending = REQUESTS[request_name, status]
    run_id = add_in_state(database, add_run, RunStatus(status))
    for _ in range(2):
        response = client.post(f"/runs/{run_id}/{request_name}")
        assert response.status_code == code, response.text
        run = client.get(f"/runs/{run_id}").json()
        assert (run["status"], run["pending_request"]) == (expected, pending)
        if code == 409:
            assert response.json()["type"] == "/problems/run-finished"
            assert expected in response.json()["detail"]


def test_a_repeated_request_leaves_one_event(client: TestClient, add_run: AddRun) -> None:
    run_id = add_run()
    for request_name in ("pause", "pause", "resume", "resume", "cancel", "cancel"):
        assert client.post(f"/runs/{run_id}/{request_name}").is_success
    events = client.get(f"/runs/{run_id}/events").json()["data"]
    assert [event["type"] for event in events] == ["queued", "paused", "resumed", "cancelled"]
    assert [event["data"]["status"] for event in events] == ["queued", "paused", "queued", "cancelled"]


@pytest.mark.parametrize("request_name", ["pause", "resume"])
def test_a_run_that_is_being_cancelled_can_do_nothing_else(
    client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem, request_name: str
) -> None:
    run_id = add_in_state(database, add_run, RUNNING)
    client.post(f"/runs/{run_id}/cancel")
    assert_problem(client.post(f"/runs/{run_id}/{request_name}"), 409, "run-being-cancelled")


def test_a_request_to_pause_can_be_taken_back_or_become_a_cancel(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    run_id = add_in_state(database, add_run, RUNNING)
    client.post(f"/runs/{run_id}/pause")
    assert client.post(f"/runs/{run_id}/resume").json()["pending_request"] is None
    client.post(f"/runs/{run_id}/pause")
    assert client.post(f"/runs/{run_id}/cancel").json()["pending_request"] == "cancel"


@pytest.mark.parametrize("request_name", ["cancel", "pause", "resume"])
def test_an_unknown_run_is_a_404(client: TestClient, assert_problem: AssertProblem, request_name: str) -> None:
    assert_problem(client.post(f"/runs/nope/{request_name}"), 404, "run-not-found")


def test_a_changed_priority_counts_at_the_next_claim(client: TestClient, database: Database, add_run: AddRun) -> None:
    old, young = add_run(), add_run()
    for _ in range(2):
        assert client.patch(f"/runs/{young}", json={"priority": 7}).json()["priority"] == 7
    assert client.get(f"/runs/{young}").json()["queue_position"] == 1
    with database.writing() as session:
        claims = claim_stack(session, worker="w", devices=["auto"], lease_seconds=60, max_stack_bytes=0)
    assert [claim.run_id for claim in claims] == [young]
    assert get_run(database, old).status is RunStatus.QUEUED


def test_a_resumed_run_has_its_old_place_in_the_queue(client: TestClient, add_run: AddRun) -> None:
    first, second = add_run(), add_run()
    client.post(f"/runs/{first}/pause")
    assert client.get(f"/runs/{second}").json()["queue_position"] == 1
    client.post(f"/runs/{first}/resume")
    assert client.get(f"/runs/{first}").json()["queue_position"] == 1


class TestIdempotencyKey:
    BODY: dict[str, Any] = {"preset": "dropout-tanh", "training": {"epochs": 60}, "tags": {"a": "1"}}

    def submit(self, client: TestClient, body: dict[str, Any], key: str = "k-1", **params: str) -> Any:
        return client.post("/runs", json=body, headers={"Idempotency-Key": key}, params=params)

    def test_the_same_key_and_body_answer_the_same_run(self, client: TestClient) -> None:
        first = self.submit(client, self.BODY)
        again = self.submit(client, dict(reversed(self.BODY.items())))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert again.headers["location"] == f"/runs/{first.json()['id']}"
        assert len(client.get("/runs").json()["data"]) == 1
        assert len(client.get("/events").json()["data"]) == 1

    def test_another_body_is_refused(self, client: TestClient, assert_problem: AssertProblem) -> None:
        self.submit(client, self.BODY)
        problem = assert_problem(self.submit(client, {**self.BODY, "seed": 1}), 422, "idempotency-key-reused")
        assert problem["errors"][0]["pointer"] == "header: idempotency-key"
        assert len(client.get("/runs").json()["data"]) == 1

    def test_it_answers_when_the_run_has_changed_and_the_queue_is_full(
        self, client: TestClient, settings: Any, add_run: AddRun
    ) -> None:
        run_id = self.submit(client, self.BODY).json()["id"]
        client.post(f"/runs/{run_id}/pause")
        client.app.state.settings = settings.model_copy(update={"max_queued_runs": 1})  # type: ignore[attr-defined]
        add_run()
        assert self.submit(client, self.BODY, "k-2").status_code == 429
        again = self.submit(client, self.BODY)
        assert (again.status_code, again.json()["status"]) == (202, "paused")

    def test_other_keys_and_no_keys_make_other_runs(self, client: TestClient) -> None:
        ids = {self.submit(client, self.BODY, key).json()["id"] for key in ("a", "b")}
        ids |= {client.post("/runs", json=self.BODY).json()["id"] for _ in range(2)}
        assert len(ids) == 4

    def test_a_dry_run_takes_no_key(self, client: TestClient) -> None:
        assert self.submit(client, self.BODY, dry_run="true").status_code == 200
        assert self.submit(client, {"seed": 3}).status_code == 202

    @pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
    def test_a_key_is_short_visible_text(self, client: TestClient, assert_problem: AssertProblem, key: str) -> None:
        problem = assert_problem(self.submit(client, {}, key), 422, "invalid-input")
        assert problem["errors"][0]["pointer"] == "header: idempotency-key"

    @pytest.mark.parametrize("body", ['{"seed": 1000000000000000000000000}', '{"name": "\\ud800"}'])
    def test_a_bad_body_is_refused_as_without_a_key(self, client: TestClient, body: str) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
        assert client.post("/runs", content=body, headers=headers).status_code == 422

    def test_many_at_once_make_one_run(self, client: TestClient) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.submit(client, self.BODY), range(24)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert [event["type"] for event in client.get("/events").json()["data"]] == ["queued"]


def test_a_full_queue_is_a_429_that_says_when_to_come_back(
    client: TestClient, settings: Any, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    client.app.state.settings = settings.model_copy(update={"max_queued_runs": 2})  # type: ignore[attr-defined]
    add_run()
    add_run()
    response = client.post("/runs", json={})
    assert_problem(response, 429, "queue-full")
    assert int(response.headers["retry-after"]) > 0
    assert len(client.get("/runs").json()["data"]) == 2


class TestDelete:
    def add_model(self, database: Database, run_id: str, val_accuracy: float) -> None:
        """Add a succeeded run with its saved model and everything else that belongs to a run."""
        with database.writing() as session:
            metric = dict.fromkeys(("train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy"), 0.5)
            session.add(Metric(run_id=run_id, epoch=1, val_loss=1.0, val_accuracy=val_accuracy, seconds=1.0, **metric))
            session.add(Checkpoint(run_id=run_id, role="best", epoch=1, blob=b"x", sha256="", size_bytes=1))
            values = {"sha256": "", "size_bytes": 1, "num_parameters": 9, "val_loss": 1.0, "train_accuracy": 1.0}
            model = SavedModel(
                run_id=run_id, epoch=1, onnx=b"x", val_accuracy=val_accuracy, on_canonical_split=True, **values
            )
            session.add(model)
            promotion.elect(session)

    def test_a_finished_run_goes_with_all_that_it_holds(
        self, client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem
    ) -> None:
        run_id = add_in_state(database, add_run, RunStatus.SUCCEEDED)
        other = add_in_state(database, add_run, RunStatus.SUCCEEDED)
        self.add_model(database, run_id, 0.9)
        self.add_model(database, other, 0.8)
        assert client.delete(f"/runs/{run_id}").status_code == 204
        assert_problem(client.get(f"/runs/{run_id}"), 404, "run-not-found")
        assert_problem(client.delete(f"/runs/{run_id}"), 404, "run-not-found")
        with database.writing() as session:
            repository.purge_deleted(session, 1000)
        with database.reading() as session:
            for table in (Metric, Checkpoint, SavedModel):
                assert session.scalars(select(table.run_id)).all() == [other]
            assert session.scalars(select(Event.type).where(Event.run_id == run_id)).all() == ["deleted"]

    def test_the_next_best_model_becomes_champion(
        self, client: TestClient, database: Database, add_run: AddRun
    ) -> None:
        runs = {accuracy: add_in_state(database, add_run, RunStatus.SUCCEEDED) for accuracy in (0.7, 0.9, 0.8)}
        for accuracy, run_id in runs.items():
            self.add_model(database, run_id, accuracy)
        client.delete(f"/runs/{runs[0.9]}")
        with database.reading() as session:
            promotions = session.scalars(select(Promotion.run_id).order_by(Promotion.id)).all()
        assert promotions == [runs[0.7], runs[0.9], runs[0.8]]
        events = [event for event in client.get("/events").json()["data"] if event["type"] == "promoted"]
        assert events[-1]["run_id"] == runs[0.8]
        expected = {"reason": "automatic", "val_accuracy": 0.8, "shifted_accuracy": None, "previous_run_id": None}
        assert events[-1]["data"] == expected

    def test_without_any_model_left_there_is_no_champion(
        self, client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem
    ) -> None:
        run_id = add_in_state(database, add_run, RunStatus.SUCCEEDED)
        self.add_model(database, run_id, 0.9)
        client.delete(f"/runs/{run_id}")
        assert_problem(client.get("/models/champion"), 404, "no-saved-model")

    @pytest.mark.parametrize("status", ["queued", "running", "paused"])
    def test_an_unfinished_run_is_not_deleted(
        self, client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem, status: str
    ) -> None:
        run_id = add_in_state(database, add_run, RunStatus(status))
        assert status in assert_problem(client.delete(f"/runs/{run_id}"), 409, "run-not-finished")["detail"]

    def test_a_trial_is_not_deleted_alone(
        self, client: TestClient, add_run: AddRun, assert_problem: AssertProblem
    ) -> None:
        run_id = add_run(status=RunStatus.CANCELLED, sweep_id="s", trial_number=1)
        assert_problem(client.delete(f"/runs/{run_id}"), 409, "trial-of-a-sweep")

    def test_the_pinned_champion_is_not_deleted(
        self, client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem
    ) -> None:
        run_id = add_in_state(database, add_run, RunStatus.SUCCEEDED)
        self.add_model(database, run_id, 0.9)
        with database.writing() as session:
            session.add(Promotion(run_id=run_id, reason=PromotionReason.PINNED))
        assert_problem(client.delete(f"/runs/{run_id}"), 409, "pinned-champion")
