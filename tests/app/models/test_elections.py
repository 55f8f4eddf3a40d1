"""Elections of the champion by workers that finish runs at the same moment."""

from __future__ import annotations

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
