"""Elections of the champion by workers that finish runs, at the same moment or many at once."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import select

from app.database import Database
from app.models import promotion, repository
from app.tables import Event, RunStatus, SavedModel
from tests.conftest import AddRun

VALUES = {"sha256": "", "size_bytes": 1, "num_parameters": 9, "val_loss": 1.0, "train_accuracy": 1.0, "onnx": b"x"}


def test_the_best_of_several_that_finish_at_once_is_champion(database: Database, add_run: AddRun) -> None:
    for attempt in range(5):
        accuracies = [attempt / 10 + number / 100 for number in range(4)]
        runs = [(add_run(status=RunStatus.SUCCEEDED), accuracy) for accuracy in accuracies]
        together = threading.Barrier(len(runs))

        def finish(run: tuple[str, float], together: threading.Barrier = together) -> None:
            run_id, accuracy = run
            together.wait()
            with database.writing() as session:
                session.add(
                    SavedModel(run_id=run_id, epoch=1, val_accuracy=accuracy, on_canonical_split=True, **VALUES)
                )
                session.flush()
                promotion.elect(session)
                time.sleep(0.01)

        with ThreadPoolExecutor(len(runs)) as pool:
            list(pool.map(finish, reversed(runs)))
        with database.reading() as session:
            champion = repository.get_champion(session)
            promoted = session.scalars(select(Event.run_id).order_by(Event.id)).all()
        assert champion is not None
        assert champion.run_id == promoted[-1] == runs[-1][0]


def test_newcomers_are_compared_with_the_champion_alone_and_the_best_of_all_models_wins(
    database: Database, add_run: AddRun
) -> None:
    """Accuracies of few values make ties, which the rest of the order decides."""
    draw = random.Random(0)

    def model(accuracy: float, *, on_canonical_split: bool = True) -> SavedModel:
        values = {**VALUES, "val_loss": draw.choice([0.5, 1.0]), "shifted_loss": draw.choice([0.5, 1.0])}
        values |= {"shifted_accuracy": accuracy, "val_accuracy": draw.choice([0.8, 0.9])}
        run_id = add_run(status=RunStatus.SUCCEEDED)
        return SavedModel(run_id=run_id, epoch=1, on_canonical_split=on_canonical_split, **values)

    def save(*models: SavedModel, is_election: bool = True) -> None:
        with database.writing() as session:
            session.add_all(models)
            session.flush()
            if is_election:
                promotion.elect(session, newcomers=[each.run_id for each in models])

    def champion() -> str:
        with database.reading() as session:
            elected = repository.get_champion(session)
        assert elected is not None
        return elected.run_id

    champions = []
    for number in range(20):
        accuracies = [0.6 + (number // 4 + draw.choice([-1, 0, 1])) / 100 for _ in range(3)]
        save(*(model(accuracy, on_canonical_split=draw.random() < 0.7) for accuracy in accuracies))
        champions.append(champion())
        with database.reading() as session:
            best = repository.best_canonical(session)
        assert best is not None
        assert champions[-1] == best.run_id
    assert len(set(champions)) > 5

    save(better := model(0.95), is_election=False)
    save(model(0.94), model(0.6))
    assert champion() not in (*champions, better.run_id)
    with database.writing() as session:
        promotion.elect(session)
    assert champion() == better.run_id
