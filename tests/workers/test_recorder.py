"""The recorder: which data is committed together, and that training does not wait for commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from app.database import Database
from app.events.repository import EventFilter, list_events
from app.queue.claiming import Claim
from app.run_config import Fold, RunConfig, Split, complete
from app.runs import service
from app.runs.schemas import MetricView
from app.tables import Checkpoint, Event, EventType, Metric, Promotion, Run, RunStatus, SavedModel
from tests.conftest import AddRun, claim_stack, counting_statements
from tests.e2e.conftest import wait_for
from workers import recorder as recorder_module
from workers import results
from workers.preparation import Preparation, PreparedRun, register_datasets
from workers.recorder import Recorder, find_pause
from workers.results import Failed, Prepared, Released, Snapshot, Succeeded
from workers.training import TrainingLoop, TrainingRun

NEVER = 1e9


@dataclass
class Stack:
    """Claimed runs in training and their recorder."""

    database: Database
    claims: list[Claim]
    prepared: list[PreparedRun]
    training: TrainingLoop
    runs: Sequence[TrainingRun]
    done: list[Claim]
    recorder: Recorder

    def train(self, epochs: int) -> None:
        for _ in range(epochs):
            for run, metrics in self.training.run_epoch():
                self.recorder.add(run, metrics)

    def commit(self) -> None:
        """Commit what is recorded, as soon as that is due, and wait until it is written."""
        epoch = self.runs[0].epoch

        def is_written() -> bool:
            self.recorder.commit_if_due(self.training.active)
            return self.row(0).epoch == epoch

        wait_for(is_written)

    def succeeded(self, number: int) -> Succeeded:
        prepared = self.prepared[number]
        return Succeeded(self.runs[number].result(), prepared.config, prepared.images)

    def row(self, number: int) -> Run:
        with self.database.reading() as session:
            return session.get_one(Run, self.claims[number].run_id)

    def count(self, table: type[Any], number: int) -> int:
        with self.database.reading() as session:
            query = select(func.count()).select_from(table).where(table.run_id == self.claims[number].run_id)
            return session.scalars(query).one()


def _claim(database: Database) -> list[Claim]:
    with database.writing() as session:
        return claim_stack(session, worker="w", devices=["auto"], lease_seconds=3600, max_stack_bytes=2**26)


@pytest.fixture
def make_stack(database: Database, add_run: AddRun) -> Any:
    def make(size: int, *, commit_seconds: float = NEVER) -> Stack:
        register_datasets(database)
        small = {"model": {"hidden_sizes": [8]}, "training": {"epochs": 6, "batch_size": 200}}
        for seed in range(size):
            add_run(RunConfig.model_validate(complete(RunConfig().model_dump(), {**small, "seed": seed})))
        claims = _claim(database)
        preparation = Preparation(database, "cpu")
        prepared = [preparation.read(claim) for claim in claims]
        training, runs = preparation.make_training(prepared)
        done: list[Claim] = []
        recorder = Recorder(database, commit_seconds, done.append)
        recorder.start(dict(zip(runs, claims, strict=True)), {"engine": "some"})
        return Stack(database, claims, prepared, training, runs, done, recorder)

    return make


def test_metrics_and_checkpoints_of_a_stack_are_committed_together(make_stack: Any) -> None:
    stack = make_stack(3, commit_seconds=1e-6)
    stack.train(2)
    assert stack.count(Metric, 0) == 0
    stack.recorder.commit_if_due(stack.training.active)
    stack.train(1)
    stack.recorder.close()
    for number in range(3):
        row = stack.row(number)
        assert (row.epoch, row.status, row.provenance) == (2, RunStatus.RUNNING, {"engine": "some"})
        assert stack.count(Metric, number) == 2
        with stack.database.reading() as session:
            roles = session.scalars(select(Checkpoint).where(Checkpoint.run_id == row.id)).all()
            assert {each.role: each.epoch for each in roles}["last"] == 2
            assert {each.role for each in roles} == {"best", "last"}
    assert stack.done == []


def test_the_first_epoch_is_committed_at_once_and_the_next_ones_when_it_is_time(make_stack: Any) -> None:
    stack = make_stack(2, commit_seconds=NEVER)
    stack.recorder.commit_if_due(stack.training.active)  # there is no new epoch yet
    for _ in range(3):
        stack.train(1)
        stack.recorder.commit_if_due(stack.training.active)
        wait_for(lambda: stack.row(0).epoch)  # waits for the first commit
    stack.recorder.close()
    assert [stack.row(number).epoch for number in range(2)] == [1, 1]
    assert [run.epoch for run in stack.runs] == [3, 3]


@pytest.mark.parametrize(
    ("commit_seconds", "busy_seconds", "pause"),
    [(1, 0.05, 1), (1, 2, 18), (1, 60, 30), (0.2, 0.05, 0.45), (600, 60, 600)],
)
def test_the_pause_follows_the_busy_time_up_to_a_limit(
    commit_seconds: float, busy_seconds: float, pause: float
) -> None:
    assert find_pause(commit_seconds, busy_seconds) == pytest.approx(pause)


def test_each_epoch_is_stored_once_over_several_commits(make_stack: Any) -> None:
    stack = make_stack(1, commit_seconds=1e-6)
    for _ in range(3):
        stack.train(1)
        stack.commit()
    stack.recorder.close()
    with stack.database.reading() as session:
        epochs = session.scalars(select(Metric.epoch).where(Metric.run_id == stack.claims[0].run_id)).all()
    assert sorted(epochs) == [1, 2, 3]


def test_metrics_are_stored_once_and_a_commits_events_of_them_are_one_row(make_stack: Any) -> None:
    stack = make_stack(2)
    stack.train(5)
    stack.recorder.end({run: Released() for run in stack.runs})
    stack.recorder.close()
    for number, claim in enumerate(stack.claims):
        is_metric = [Event.run_id == claim.run_id, Event.type == EventType.METRIC]
        with stack.database.reading() as session:
            (row,) = session.scalars(select(Event).where(*is_metric))
            assert (row.data, row.num_events, row.first_epoch, row.last_epoch) == ({}, 5, 1, 5)
            stored = session.scalars(select(Metric).where(Metric.run_id == claim.run_id).order_by(Metric.epoch)).all()
            events = list_events(session, EventFilter((claim.run_id,)), after=row.id - 5, limit=5)
        assert [event.id for event in events] == list(range(row.id - 4, row.id + 1))
        assert [MetricView(**event.data) for event in events] == [MetricView.of(metric) for metric in stored]
        assert stack.runs[number].epoch == stored[-1].epoch == 5


def test_what_a_commit_of_a_stack_writes_is_as_many_statements_as_of_one_run(make_stack: Any) -> None:
    counts = []
    for size in (1, 8):
        stack = make_stack(size)
        stack.train(3)
        with counting_statements(stack.database, "INSERT INTO") as statements:
            stack.recorder.end({run: Failed("some", "") for run in stack.runs})
            stack.recorder.close()
        counts.append(len(statements))
    assert counts[0] == counts[1] >= 3  # metrics, checkpoints, events


def test_training_goes_on_while_another_transaction_holds_the_write_lock(make_stack: Any) -> None:
    stack = make_stack(2, commit_seconds=1e-6)
    stack.train(1)
    with stack.database.writing() as session:
        session.get_one(Run, stack.claims[0].run_id, with_for_update=True)
        for _ in range(4):
            stack.recorder.commit_if_due(stack.training.active)
            stack.train(1)
        assert [run.epoch for run in stack.runs] == [5, 5]
        assert stack.row(0).epoch == 0
    stack.recorder.close()
    assert stack.row(0).epoch == 1  # one commit was waiting, and no further ones queued up
    assert stack.count(Metric, 0) == 1


def test_the_next_commit_is_prepared_while_one_is_written_and_no_further_one(
    make_stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(5)
    stack.train(6)
    monkeypatch.setattr(recorder_module, "RUNS_PER_TRANSACTION", 1)
    prepared: list[Claim] = []

    def prepare(snapshot: Snapshot) -> Prepared:
        prepared.append(snapshot.claim)
        return prepare_unwatched(snapshot)

    prepare_unwatched = results.prepare
    monkeypatch.setattr(results, "prepare", prepare)
    with stack.database.writing() as session:
        session.get_one(Run, stack.claims[0].run_id, with_for_update=True)
        stack.recorder.end({run: stack.succeeded(number) for number, run in enumerate(stack.runs)})
        wait_for(lambda: len(prepared) == 2)
        time.sleep(0.3)  # time enough for a third one
        assert prepared == stack.claims[:2]
        assert stack.done == []
    stack.recorder.close()
    assert stack.done == prepared == stack.claims
    assert {stack.row(number).status for number in range(5)} == {RunStatus.SUCCEEDED}


def test_nothing_is_committed_after_a_preparation_that_failed(make_stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = make_stack(4)
    stack.train(2)
    monkeypatch.setattr(recorder_module, "RUNS_PER_TRANSACTION", 1)
    prepare_unwatched = results.prepare

    def prepare(snapshot: Snapshot) -> Prepared:
        if snapshot.claim == stack.claims[1]:
            raise MemoryError
        return prepare_unwatched(snapshot)

    monkeypatch.setattr(results, "prepare", prepare)
    stack.recorder.end({run: Released() for run in stack.runs})
    with pytest.raises(MemoryError):
        stack.recorder.close()
    assert stack.done == stack.claims[:1]
    assert [stack.row(number).status for number in range(4)] == [RunStatus.QUEUED, *[RunStatus.RUNNING] * 3]


def test_nothing_is_committed_after_a_commit_that_failed(make_stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later commits build on the failed one; with them its metrics would be missing for good."""
    stack = make_stack(1, commit_seconds=1e-6)
    stack.train(1)
    go_on = threading.Event()
    writing = stack.database.writing

    def fail_once() -> Any:
        go_on.wait(60)
        monkeypatch.setattr(stack.database, "writing", writing)
        raise OperationalError("BEGIN", {}, Exception("disk full"))

    monkeypatch.setattr(stack.database, "writing", fail_once)
    stack.recorder.commit_if_due(stack.training.active)
    stack.train(1)
    stack.recorder.end({stack.runs[0]: Released()})
    go_on.set()
    with pytest.raises(OperationalError):
        stack.recorder.close()
    assert (stack.row(0).status, stack.row(0).epoch, stack.count(Metric, 0)) == (RunStatus.RUNNING, 0, 0)


def test_progress_that_only_repeats_what_is_recorded_is_none(make_stack: Any) -> None:
    """A forest makes such progress, since it starts from the beginning at every claim."""
    stack = make_stack(1)
    stack.train(2)
    with stack.database.writing() as session:
        row = session.get_one(Run, stack.claims[0].run_id)
        row.epoch, row.crashes_without_progress = 3, 2
    stack.recorder.end({stack.runs[0]: Released()})
    stack.recorder.close()
    assert (stack.row(0).epoch, stack.row(0).crashes_without_progress) == (3, 2)


def test_every_outcome_is_recorded_and_reported(make_stack: Any) -> None:
    stack = make_stack(5)
    stack.train(6)
    runs = stack.runs
    outcomes = {runs[0]: stack.succeeded(0), runs[1]: Failed("diverged", "…")}
    outcomes |= {runs[number]: Released() for number in (2, 3, 4)}
    with stack.database.writing() as session:
        service.cancel(session, stack.claims[2].run_id)
        service.pause(session, stack.claims[3].run_id)
    stack.recorder.end(outcomes)
    stack.recorder.close()
    rows = [stack.row(number) for number in range(5)]
    assert [row.status for row in rows] == [
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.PAUSED,
        RunStatus.QUEUED,
    ]
    assert [row.error_code for row in rows] == [None, "diverged", None, None, None]
    assert [stack.count(SavedModel, number) for number in range(5)] == [1, 0, 0, 0, 0]
    assert [stack.count(Metric, number) for number in range(5)] == [6, 6, 6, 6, 6]
    # A failed run keeps its best weights, but no state to resume from.
    assert [stack.count(Checkpoint, number) for number in range(5)] == [2, 1, 2, 2, 2]
    assert [row.epoch for row in rows] == [6, 6, 6, 6, 6]
    assert stack.done == stack.claims
    with stack.database.reading() as session:
        assert session.scalars(select(Promotion.run_id)).one() == rows[0].id


def test_a_saved_model_is_evaluated_on_shifted_val(make_stack: Any) -> None:
    stack = make_stack(2)
    stack.train(6)
    outcomes = {run: stack.succeeded(number) for number, run in enumerate(stack.runs)}
    fold = stack.prepared[1].config.model_copy(update={"split": Split(fold=Fold(number=0, of=5))})
    outcomes[stack.runs[1]] = replace(outcomes[stack.runs[1]], config=fold)
    stack.recorder.end(outcomes)
    stack.recorder.close()
    with stack.database.reading() as session:
        model, of_fold = (session.get_one(SavedModel, claim.run_id) for claim in stack.claims)
        assert model.shifted_right is not None
        right = np.unpackbits(np.frombuffer(model.shifted_right, np.uint8), count=5400).reshape(540, 10)
        assert model.shifted_accuracy == pytest.approx(right.mean())
        assert model.shifted_standard_error == pytest.approx(right.mean(axis=1).std(ddof=1) / np.sqrt(540))
        assert model.shifted_loss is not None
        assert model.shifted_loss > 0
        assert model.max_energy is not None
        assert model.max_distance is not None
        row = stack.row(0)
        assert (row.shifted_accuracy, row.shifted_standard_error) == (
            model.shifted_accuracy,
            model.shifted_standard_error,
        )
        assert (of_fold.shifted_accuracy, of_fold.shifted_right, of_fold.max_energy) == (None, None, None)
        promoted = session.scalars(select(Event).where(Event.type == EventType.PROMOTED)).one()
        assert promoted.data["shifted_accuracy"] == model.shifted_accuracy


def test_a_model_that_does_not_answer_as_the_network_does_is_not_saved(make_stack: Any) -> None:
    stack = make_stack(2)
    stack.train(6)
    wrong = stack.succeeded(0)
    probabilities = wrong.result.val_probabilities.copy()
    probabilities[-1] = np.roll(probabilities[-1], 1)
    wrong = replace(wrong, result=replace(wrong.result, val_probabilities=probabilities))
    stack.recorder.end({stack.runs[0]: wrong, stack.runs[1]: stack.succeeded(1)})
    stack.recorder.close()
    assert [stack.row(number).status for number in (0, 1)] == [RunStatus.FAILED, RunStatus.SUCCEEDED]
    assert stack.row(0).error_code == "export_mismatch"
    assert [stack.count(SavedModel, number) for number in (0, 1)] == [0, 1]


def test_nothing_is_written_for_a_run_that_another_worker_has_taken_over(make_stack: Any) -> None:
    stack = make_stack(2)
    stack.train(3)
    with stack.database.writing() as session:
        session.get_one(Run, stack.claims[0].run_id).lease_expires_at = 1.0
    assert [claim.run_id for claim in _claim(stack.database)] == [stack.claims[0].run_id]
    stack.recorder.end({run: Released() for run in stack.runs})
    stack.recorder.close()
    assert [stack.row(number).status for number in (0, 1)] == [RunStatus.RUNNING, RunStatus.QUEUED]
    assert [stack.count(Metric, number) for number in (0, 1)] == [0, 3]
    assert [stack.recorder.is_lost(run) for run in stack.runs] == [True, False]
    assert sorted(stack.done, key=stack.claims.index) == stack.claims
