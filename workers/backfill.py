"""Evaluates saved models that have no shifted accuracy yet: those of earlier versions. The idle trainer does it.

Any number of workers may do it at once, and any of them may be killed: a value is written once, with the election that
it may lead to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, describe_failure
from app.errors import NotFound
from app.models import promotion
from app.models import repository as models
from app.models import service as model_service
from app.run_config import RunConfig
from app.tables import Run, SavedModel
from app.wording import count
from workers.preparation import Preparation
from workers.results import store_evaluation
from workers.training.shifted import Evaluation, evaluate

logger = logging.getLogger(__name__)


class Backfill:
    """Evaluates one model at a time, the champion first, then the best by val.

    Args:
        database: Holds the models.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def run(self, has_message: Callable[[], bool]) -> bool:
        """Evaluate models until none is left or a message waits.

        Args:
            has_message: Whether the parent has sent something.

        Returns:
            Whether none is left. Models that cannot be evaluated do not count, nor does what a failing database hides.
        """
        number, preparation = 0, Preparation(self._database, "cpu")  # which keeps the splits that it has read
        try:
            while (run_id := self._find_next()) is not None:
                if has_message():
                    return False
                number += self._evaluate(preparation, run_id)
        except SQLAlchemyError as error:
            logger.error("No evaluation of earlier models: %s", describe_failure(error))
        finally:
            if number:
                logger.info("Evaluated %s of earlier versions on shifted val", count(number, "model"))
        return True

    def _find_next(self) -> str | None:
        with self._database.reading() as session:
            return models.find_unevaluated(session)

    def _evaluate(self, preparation: Preparation, run_id: str) -> bool:
        try:
            evaluation = self._compute(preparation, run_id)
        except SQLAlchemyError:
            raise
        except NotFound:
            return False  # deleted meanwhile
        except Exception as error:
            logger.error("The saved model of run %s cannot be evaluated: %s", run_id, error)
            self._mark_unusable(run_id)
            return False
        return self._write(run_id, evaluation)

    def _compute(self, preparation: Preparation, run_id: str) -> Evaluation:
        with self._database.reading() as session:
            model = model_service.get_saved_model(session, run_id)
            config = RunConfig.model_validate(session.get_one(Run, run_id).config)
        return evaluate(model.onnx, preparation.read_images(config))

    def _mark_unusable(self, run_id: str) -> None:
        """Note that a model cannot be evaluated, and elect: if it is champion, others are ranked before it now."""
        with self._database.writing() as session:
            models.mark_unusable(session, run_id)
            promotion.elect(session)

    def _write(self, run_id: str, evaluation: Evaluation) -> bool:
        """Write an evaluation and elect; returns whether it was still missing."""
        with self._database.writing() as session:
            if not models.lock_run(session, run_id):
                return False  # deleted meanwhile
            model = session.get_one(SavedModel, run_id)
            if model.shifted_accuracy is not None:
                return False  # another worker was faster
            store_evaluation(session.get_one(Run, run_id), model, evaluation)
            promotion.elect(session)
        return True
