"""The evaluation of saved models of earlier versions: which are evaluated, in which order, and what is elected."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from app.database import Database, utc_now
from app.models import repository as models
from app.run_config import Fold, RunConfig, Split
from app.tables import Run, RunStatus, SavedModel
from tests.conftest import AddModel, AddRun
from tests.graphs import graph_answering, random_graph
from workers import backfill as backfill_module
from workers.backfill import Backfill
from workers.preparation import register_datasets
from workers.training import shifted


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch, database: Database) -> list[bytes]:
    """The graphs that were evaluated, in order."""
    register_datasets(database)
    graphs: list[bytes] = []
    evaluate = shifted.evaluate

    def noted(graph: bytes, *arguments: Any) -> Any:
        graphs.append(graph)
        return evaluate(graph, *arguments)

    monkeypatch.setattr(backfill_module, "evaluate", noted)
    return graphs


def accuracies(database: Database) -> dict[str, float | None]:
    with database.reading() as session:
        rows = session.execute(select(SavedModel.run_id, SavedModel.shifted_accuracy, Run.shifted_accuracy).join(Run))
        found = {run_id: (of_model, of_run) for run_id, of_model, of_run in rows}
    assert all(of_model == of_run for of_model, of_run in found.values())
    return {run_id: of_model for run_id, (of_model, _) in found.items()}


def champion(database: Database) -> str:
    with database.reading() as session:
        found = models.get_champion(session)
        assert found is not None
        return found.run_id


def test_all_models_are_evaluated_the_champion_first_and_the_best_is_elected(
    database: Database, add_model: AddModel, evaluated: list[bytes]
) -> None:
    graphs = [graph_answering(digit) for digit in (8, 3, 1)]
    runs = [add_model(accuracy, graph) for accuracy, graph in zip((0.8, 0.99, 0.9), graphs, strict=True)]
    other_split = add_model(0.995, random_graph(), on_canonical_split=False)
    assert champion(database) == runs[1]
    assert Backfill(database).run(lambda: False)
    assert evaluated == [graphs[1], graphs[2], graphs[0], random_graph()]
    found = accuracies(database)
    assert all(accuracy is not None for accuracy in found.values())
    best = max(runs, key=lambda run_id: (found[run_id], -runs.index(run_id)))
    assert champion(database) == best
    assert other_split in found
    evaluated.clear()
    assert Backfill(database).run(lambda: False)  # nothing is left
    assert evaluated == []


def test_folds_and_unfinished_and_deleted_runs_are_left_out(
    database: Database, add_run: AddRun, add_model: AddModel, evaluated: list[bytes]
) -> None:
    fold = add_model(0.9, graph_answering(1))
    deleted = add_model(0.8, graph_answering(2))
    with database.writing() as session:
        session.execute(update(Run).where(Run.id == fold).values(fold=0))
        session.execute(update(Run).where(Run.id == deleted).values(deleted_at=utc_now()))
    add_run(RunConfig(split=Split(fold=Fold(number=0, of=5))), status=RunStatus.PAUSED)
    assert Backfill(database).run(lambda: False)
    assert evaluated == []


def test_a_message_ends_the_evaluation_after_the_model_at_hand(
    database: Database, add_model: AddModel, evaluated: list[bytes]
) -> None:
    for digit in range(3):
        add_model(0.9, graph_answering(digit))
    messages = iter([False, True, True, False, False, False])
    backfill = Backfill(database)
    assert not backfill.run(lambda: next(messages))
    assert len(evaluated) == 1
    assert not backfill.run(lambda: next(messages))
    assert backfill.run(lambda: next(messages))
    assert len(evaluated) == 3


def test_a_model_that_cannot_be_evaluated_hinders_no_other(
    database: Database, add_model: AddModel, evaluated: list[bytes]
) -> None:
    good, bad, damaged = add_model(0.8), add_model(0.99, b"this is no graph"), add_model(0.9)
    with database.writing() as session:
        session.get_one(SavedModel, damaged).sha256 = ""
    assert champion(database) == bad
    assert Backfill(database).run(lambda: False)
    assert len(evaluated) == 2  # what does not match its digest is not looked at
    found = accuracies(database)
    assert found[good] is not None
    assert found[bad] is found[damaged] is None
    # A model that cannot be evaluated is ranked like any other without a value.
    assert champion(database) == good
    better = add_model(0.995, random_graph())
    assert Backfill(database).run(lambda: False)
    assert champion(database) == better


def test_a_value_is_written_once(
    database: Database, add_model: AddModel, evaluated: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker evaluates the model, or a client deletes its run, while this one computes."""
    run_id = add_model(0.9)
    noted = backfill_module.__dict__["evaluate"]

    def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(backfill_module, "evaluate", noted)
        with database.writing() as session:
            session.execute(update(SavedModel).values(shifted_accuracy=0.125))
            session.execute(update(Run).values(shifted_accuracy=0.125))
        return noted(*arguments)

    monkeypatch.setattr(backfill_module, "evaluate", slow)
    assert Backfill(database).run(lambda: False)
    assert accuracies(database) == {run_id: 0.125}
    assert len(evaluated) == 1


def test_a_failing_database_is_logged_and_tried_again_later(
    database: Database,
    add_model: AddModel,
    evaluated: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> Any:
        raise OperationalError("BEGIN", {}, Exception("disk full"))

    add_model(0.9)
    backfill = Backfill(database)
    with monkeypatch.context() as failing:
        failing.setattr(database, "writing", fail)
        assert backfill.run(lambda: False)
    assert "disk full" in caplog.text
    assert list(accuracies(database).values()) == [None]
    assert backfill.run(lambda: False)
    assert len(evaluated) == 2
