"""The worker's parent process, with a fake trainer process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.database import Database
from app.settings import Settings
from app.tables import RunStatus
from tests.conftest import AddRun, get_run
from workers import worker as worker_module
from workers.messages import EXIT_DATABASE_FAILED, Evaluate, Evaluated, FromChild, FromParent, Idle, Ready, Train
from workers.worker import Worker


class PlayedChild:
    """A fake trainer: it is ready at once, and dies of the next stack that it is told to train."""

    exit_codes: list[int] = []
    deaths = 0

    def __init__(self, *_: Any) -> None:
        self.ready: Ready | None = None
        self.started_at = 0.0
        self.is_dead = False
        self.exit_code: int | None = None

    def receive(self, _timeout: float) -> list[FromChild] | None:
        if self.is_dead:
            return None
        return [Idle()] if self.ready else [Ready(["auto"], "cpu", {})]

    def send(self, message: FromParent) -> None:
        if isinstance(message, Train):
            self.exit_code = PlayedChild.exit_codes.pop(0)
            self.is_dead = True
            PlayedChild.deaths += 1

    def kill(self) -> None:
        pass

    def join(self, _timeout: float) -> None:
        pass

    def end(self) -> None:
        pass


@pytest.fixture
def worker(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:  # noqa: ARG001
    monkeypatch.setattr(worker_module, "TrainerProcess", PlayedChild)
    monkeypatch.setattr(worker_module, "FIRST_RESTART_SECONDS", 0.0)
    monkeypatch.setattr(PlayedChild, "deaths", 0)
    made = Worker(settings)
    yield made
    made._unregister()


def work(worker: Worker, exit_codes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the worker until its trainer has died once with each of these exit codes."""
    monkeypatch.setattr(PlayedChild, "exit_codes", exit_codes)
    child: Any = PlayedChild()
    for _ in range(10 * len(exit_codes)):
        child = worker._run_once(child)
        if not exit_codes and not child.is_dead:
            return


def test_a_child_that_could_not_write_is_not_its_runs_fault(
    worker: Worker, database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be too full for checkpoints but not for claims; that must not fail an accepted run."""
    run_id = add_run()
    work(worker, [EXIT_DATABASE_FAILED] * 5, monkeypatch)
    run = get_run(database, run_id)
    assert (PlayedChild.deaths, run.claim_number) == (5, 5)
    assert (run.status, run.crashes_without_progress) == (RunStatus.QUEUED, 0)


def test_a_child_that_dies_three_times_of_a_run_fails_it(
    worker: Worker, database: Database, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = add_run()
    work(worker, [-9] * 3, monkeypatch)
    run = get_run(database, run_id)
    assert (run.status, run.error_code, run.crashes_without_progress) == (RunStatus.FAILED, "worker_lost", 3)


class PlayedEvaluator(PlayedChild):
    """A fake trainer that answers with what it is given, and notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Ready(["auto"], "cpu", {})
        self.answers: list[FromChild] = []
        self.told: list[FromParent] = []

    def receive(self, _timeout: float) -> list[FromChild] | None:
        answers, self.answers = self.answers, []
        return answers

    def send(self, message: FromParent) -> None:
        self.told.append(message)


def test_an_idle_child_evaluates_earlier_models_and_trains_first(
    worker: Worker, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "EVALUATION_SECONDS", 1000.0)
    child: Any = PlayedEvaluator()
    for _ in range(3):
        worker._run_once(child)
    assert child.told == [Evaluate()]  # and no other one until it has answered
    add_run()
    worker._run_once(child)  # the child hears of the run while it evaluates
    assert isinstance(child.told[1], Train)
    child.answers = [Evaluated(is_complete=False), Idle()]
    worker._run_once(child)  # models are left: the child goes on at once
    assert child.told[2:] == [Evaluate()]
    child.answers = [Evaluated(is_complete=True)]
    for _ in range(3):
        worker._run_once(child)
    assert len(child.told) == 3
