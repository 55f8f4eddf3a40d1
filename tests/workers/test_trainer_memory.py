"""What a trainer keeps of the stacks that it has trained."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.database import Database
from app.run_config import RunConfig, complete
from app.settings import Settings
from app.tables import Run, RunStatus
from tests.conftest import AddRun, claim_stack
from workers.messages import Idle, Stop, Train
from workers.preparation import Preparation, register_datasets
from workers.shared_clocks import Pulse
from workers.trainer import Trainer
from workers.training.loop import StackTraining


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("has_failed", [False, True])
def test_a_stack_is_gone_from_memory_when_the_trainer_waits_for_the_next_one(
    has_failed: bool,
    settings: Settings,
    database: Database,
    add_run: AddRun,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Collections are rare in a trainer. A failed stack's runs are still in it, and refer to it."""
    caplog.set_level(logging.CRITICAL, "workers.trainer")  # a record would keep the traceback, and so the stack
    register_datasets(database)
    document = {"model": {"hidden_sizes": [8]}, "training": {"epochs": 2, "batch_size": 200}}
    run_ids = [add_run(RunConfig.model_validate(complete(RunConfig().model_dump(), document))) for _ in range(3)]
    with database.writing() as session:
        options: dict[str, Any] = {"lease_seconds": 3600, "max_stack_bytes": 2**26}
        claims = claim_stack(session, worker="w", devices=["auto", "cpu"], **options)
    assert len(claims) == 3
    made: list[weakref.ref[Any]] = []
    make_training = Preparation.make_training

    def watch(*arguments: Any) -> Any:
        training, runs = make_training(*arguments)
        made.append(weakref.ref(training))
        return training, runs

    def fail(*_: Any) -> Any:
        raise RuntimeError("the engine has failed")

    monkeypatch.setattr(Preparation, "make_training", watch)
    if has_failed:
        monkeypatch.setattr(StackTraining, "run_epoch", fail)
    connection, worker = multiprocessing.Pipe()
    worker.send(Train([claims]))

    def stop_when_idle() -> None:
        while not isinstance(worker.recv(), Idle):
            pass
        worker.send(Stop())

    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(stop_when_idle)
        Trainer(connection, settings, database, Pulse(multiprocessing.get_context("spawn"))).serve()
        stopping.result()
    with database.reading() as session:
        ends = {session.get_one(Run, run_id).status for run_id in run_ids}
    assert ends == {RunStatus.QUEUED if has_failed else RunStatus.SUCCEEDED}
    assert [each() for each in made] == [None]
