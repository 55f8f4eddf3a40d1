"""The trainer with several stacks in one claim: the CUDA engine, emulated, and fakes for what fails."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import pytest
import torch
from sqlalchemy import select

from app.database import Database
from app.queue import claiming
from app.queue.claiming import Claim, SideBySide
from app.run_config import RunConfig, complete
from app.settings import Settings
from app.tables import Metric, Run, RunStatus
from tests.conftest import AddRun, TestClient, get_run
from tests.workers.training.engines.emulation import EmulatedKernels
from workers.messages import Done, Release, Stop
from workers.preparation import Preparation, register_datasets
from workers.recorder import Recorder
from workers.shared_clocks import Pulse
from workers.trainer import Trainer
from workers.training import side_by_side
from workers.training.engines import choice
from workers.training.engines.choice import SharedLaunches
from workers.training.engines.cuda_engine import queue_together
from workers.training.loop import StackTraining
from workers.training.stretches import Pace

pytestmark = [
    pytest.mark.usefixtures("fused"),
    pytest.mark.parametrize("settings", ["sqlite"], indirect=True),  # nothing here depends on the database
]

WIDTHS = (12, 24, 40)


class Failure(Exception):
    pass


class Trained(NamedTuple):
    """What became of a claim."""

    sizes: list[int]  # of its stacks
    done: list[Claim]  # as the parent was told


def network(width: int, **training: Any) -> RunConfig:
    training = {"batch_size": None, "epochs": 6, "evaluate_every": 6, **training}
    document = {"model": {"hidden_sizes": [width]}, "training": training}
    return RunConfig.model_validate(complete(RunConfig().model_dump(), document))


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def train(settings: Settings, database: Database, pipe: tuple[Connection, Connection]) -> Callable[[], Trained]:
    """Claims and trains as worker and trainer do."""
    parent, child = pipe
    register_datasets(database)
    trainer = Trainer(child, settings, database, Pulse(multiprocessing.get_context("spawn")))

    def claim_and_train() -> Trained:
        with database.writing() as session:
            stacks = claiming.claim_stacks(
                session,
                worker="w",
                devices=["auto", "cpu"],
                lease_seconds=3600,
                max_stack_bytes=2**26,
                side_by_side=SideBySide(("auto", "cpu"), 132, 2**30),
            )
        trainer._train(stacks)
        done = []
        while parent.poll():
            message = parent.recv()
            assert isinstance(message, Done)
            done.append(message.claim)
        return Trained([len(stack) for stack in stacks], done)

    return claim_and_train


def test_the_stacks_of_a_claim_are_trained_to_their_ends(
    database: Database, add_run: AddRun, train: Callable[[], Trained]
) -> None:
    """Each ends at its own epoch, and is recorded while the others go on."""
    run_ids = [add_run(network(width, epochs=6 * number)) for number, width in enumerate(WIDTHS, start=1)]
    run_ids.append(add_run(network(WIDTHS[0], epochs=12)))
    trained = train()
    assert trained.sizes == [2, 1, 1]
    assert sorted(trained.done, key=lambda claim: claim.run_id) == [Claim(run_id, 1) for run_id in run_ids]
    assert trained.done[0].run_id == run_ids[0]
    assert trained.done[-1].run_id == run_ids[2]
    runs = [get_run(database, run_id) for run_id in run_ids]
    assert [(run.status, run.epoch) for run in runs] == [(RunStatus.SUCCEEDED, epochs) for epochs in (6, 12, 18, 12)]
    assert {run.provenance["engine"].split()[0] for run in runs if run.provenance} == {"fused"}


@pytest.mark.parametrize("place", ["preparation", "start", "training", "result"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_failure_of_one_stack_is_that_of_its_runs_alone(
    database: Database,
    add_run: AddRun,
    train: Callable[[], Trained],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    size: int,
) -> None:
    """A lone run fails; of several runs, each is tried again in a smaller stack. The others go on."""
    failing = [add_run(network(WIDTHS[1], epochs=12 + seed)) for seed in range(size)]
    others = [add_run(network(width, epochs=18)) for width in (WIDTHS[0], WIDTHS[2])]

    def fail_for_one(owner: type[Any], name: str, find_width: Callable[..., int]) -> None:
        original = getattr(owner, name)

        def called(self: Any, *arguments: Any, **options: Any) -> Any:
            if find_width(self, *arguments) == WIDTHS[1]:
                raise Failure("on purpose")
            return original(self, *arguments, **options)

        monkeypatch.setattr(owner, name, called)

    def width_of(training: Any) -> int:
        return int(training.active[0].config.hidden_sizes[0])

    if place == "preparation":
        fail_for_one(Preparation, "make_training", lambda _self, runs: runs[0].config.model.hidden_sizes[0])
    elif place == "start":
        fail_for_one(Recorder, "start", lambda _self, runs, _provenance: next(iter(runs)).config.hidden_sizes[0])
    elif place == "training":
        fail_for_one(StackTraining, "record_stretch", lambda self, *_: width_of(self))
    else:
        fail_for_one(Recorder, "end", lambda _self, outcomes: next(iter(outcomes)).config.hidden_sizes[0])
    trained = train()
    assert sorted(trained.sizes) == sorted([size, 1, 1])
    assert {claim.run_id for claim in trained.done} == {*failing, *others}
    assert [get_run(database, run_id).status for run_id in others] == [RunStatus.SUCCEEDED] * 2
    runs = [get_run(database, run_id) for run_id in failing]
    if size == 1:
        assert [(run.status, run.error_code) for run in runs] == [(RunStatus.FAILED, "internal_error")]
        assert runs[0].error_detail == "Failure: on purpose"
        return
    # What was committed before the end is progress: the crash is counted from there.
    assert [(run.status, run.crashes_without_progress) for run in runs] == [(RunStatus.QUEUED, 1)] * 2
    monkeypatch.undo()
    assert [train().sizes for _ in range(2)] == [[1], [1]]


def test_a_launch_that_fails_may_be_the_fault_of_each_stack(
    database: Database, add_run: AddRun, train: Callable[[], Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are tried again one at a time: one fails, the others succeed."""
    run_ids = [add_run(network(width)) for width in WIDTHS]

    def fail(parts: Any) -> Any:
        if any(part.engine.stack.widths[0, 1] == WIDTHS[1] for part in parts):
            raise Failure("on purpose")
        return queue_together(parts)

    monkeypatch.setattr(side_by_side, "queue_together", fail)
    assert train().sizes == [1, 1, 1]
    assert {get_run(database, run_id).crashes_without_progress for run_id in run_ids} == {1}
    assert [train().sizes for _ in WIDTHS] == [[1]] * 3
    statuses = [get_run(database, run_id).status for run_id in run_ids]
    assert statuses == [RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.SUCCEEDED]


@pytest.mark.parametrize("message", ["release", "stop"])
def test_a_request_acts_within_two_launches(
    database: Database,
    add_run: AddRun,
    train: Callable[[], Trained],
    pipe: tuple[Connection, Connection],
    monkeypatch: pytest.MonkeyPatch,
    message: str,
) -> None:
    """Here a launch has an epoch. What is released goes on later, and ends as if nothing had happened."""
    monkeypatch.setattr(Pace, "follow", lambda _self, _work, _seconds: None)
    run_ids = [add_run(network(width, evaluate_every=1)) for width in WIDTHS[:2]]
    parent, _ = pipe
    launch, num_launches = EmulatedKernels.launch, 0

    def launch_and_ask(kernels: EmulatedKernels, name: str, jobs: torch.Tensor, **options: Any) -> None:
        nonlocal num_launches
        launch(kernels, name, jobs, **options)
        num_launches += name == "train_epochs"
        if name == "train_epochs" and num_launches == 3:
            parent.send(Release([Claim(run_ids[0], 1)]) if message == "release" else Stop())

    monkeypatch.setattr(EmulatedKernels, "launch", launch_and_ask)
    train()
    released, other = (get_run(database, run_id) for run_id in run_ids)
    assert (released.status, released.crashes_without_progress) == (RunStatus.QUEUED, 0)
    assert 1 <= released.epoch <= 4
    assert other.status is (RunStatus.SUCCEEDED if message == "release" else RunStatus.QUEUED)


def test_a_trainer_says_what_can_be_trained_side_by_side(
    settings: Settings, database: Database, pipe: tuple[Connection, Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(pipe[1], settings, database, Pulse(multiprocessing.get_context("spawn")))
    assert trainer._find_side_by_side() is None
    monkeypatch.setattr(choice, "find_shared_launches", lambda _device, _engine: SharedLaunches(132, 2**30))
    default = trainer._default_device
    assert trainer._find_side_by_side() == SideBySide(("auto", default), 132, 2**30)
    trainer._default_device = "another"
    assert trainer._find_side_by_side() == SideBySide((default,), 132, 2**30)


def test_trials_of_other_stacks_count_at_a_rung_before_they_are_committed(
    database: Database, client: TestClient, train: Callable[[], Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is judged against those before it, in the same launch: of three or fewer, the best one goes on."""
    monkeypatch.setattr(Pace, "follow", lambda _self, _work, _seconds: None)  # a launch has an epoch
    monkeypatch.setattr(Recorder, "commit_if_due", lambda _self, _runs: None)
    document = {
        "base": {"training": {"batch_size": None, "epochs": 9, "evaluate_every": 9}},
        "search": {"kind": "grid"},
        "parameters": {"model.hidden_sizes": [[width] for width in reversed(WIDTHS)]},
        "stopping": {"kind": "successive_halving", "rungs": 1, "reduction": 3},
    }
    response = client.post("/sweeps", json=document)
    assert response.status_code == 202, response.text
    assert train().sizes == [1, 1, 1]
    with database.reading() as session:
        runs = session.scalars(select(Run).order_by(Run.id)).all()
        at_rung = {row.run_id: row for row in session.scalars(select(Metric).where(Metric.epoch == 3))}
    standings = [(at_rung[run.id].val_accuracy, -at_rung[run.id].val_loss) for run in runs]
    expected = [9 if standing == max(standings[: number + 1]) else 3 for number, standing in enumerate(standings)]
    assert [(run.status, run.epoch) for run in runs] == [(RunStatus.SUCCEEDED, epochs) for epochs in expected]
    assert 3 in expected
