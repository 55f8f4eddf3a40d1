"""The models in memory: the champion, followed as it changes, and those asked for by run id.

Answering takes no database access: a thread of its own looks for a new champion a few times a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database, describe_failure, explain_failure
from app.datasets.catalog import NUM_PIXELS
from app.errors import DamagedData, Unavailable
from app.models import repository, service
from app.predictions.instances import Pixels
from app.tables import SavedModel

logger = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float32]
NO_MODEL_RETRY_SECONDS = 2
# What a session takes beside its file, and for each byte of it: 2 measured of networks, 4.0 to 4.7 of forests.
BYTES_PER_SESSION = 100_000
BYTES_PER_FILE_BYTE = 5
UNUSABLE_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class LoadedModel:
    """A saved model, ready to answer. Immutable: a request that holds one is answered whole by it."""

    run_id: str
    val_accuracy: float
    sha256: str
    session: onnxruntime.InferenceSession
    num_bytes: int  # of memory, estimated

    @classmethod
    def load(cls, model: SavedModel) -> LoadedModel:
        """Make an inference session and run it once, so that the first request does not wait for that.

        Raises:
            DamagedData: ONNX Runtime cannot use the graph.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # these graphs are too small to gain from more
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # keeps memory flat over many swaps
        try:
            session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
            num_bytes = BYTES_PER_SESSION + BYTES_PER_FILE_BYTE * len(model.onnx)
            loaded = cls(model.run_id, model.val_accuracy, model.sha256, session, num_bytes)
            loaded.predict(np.zeros((1, NUM_PIXELS), np.float32))
        except Exception as error:  # ONNX Runtime's errors share no class of their own
            raise DamagedData(f"The saved model of run {model.run_id} cannot be loaded.") from error
        return loaded

    def predict(self, pixels: Pixels) -> Probabilities:
        """Probabilities of the ten digits.

        Args:
            pixels: float32, N × 64, 0–16.

        Returns:
            float32, N × 10.
        """
        inputs = {"pixels": pixels.astype(np.float32, copy=False)}
        probabilities: Probabilities = self.session.run(["probabilities"], inputs)[0]
        return probabilities


class Predictor:
    """Holds the champion and a cache of other models. Safe to use from many threads.

    Args:
        database: Is read by a thread of the predictor's own, and by those that load models.
        poll_seconds: How often to look for a new champion.
        max_loaded_bytes: Bound of the cache. A larger model answers, and is not kept.
    """

    def __init__(self, database: Database, *, poll_seconds: float, max_loaded_bytes: int) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._max_loaded_bytes = max_loaded_bytes
        self._champion: LoadedModel | None = None
        self._database_problem: str | None = None
        self._unusable: dict[str, _Unusable] = {}
        self._others: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._refreshing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        """Load the champion, if there is one, then follow its changes."""
        self._refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def problems(self) -> list[str]:
        """What keeps the champion of the database from answering, in sentences."""
        champion = self._champion
        instead = "no other model answers" if champion is None else f"run {champion.run_id} answers"
        causes = [f"{unusable.reason} It is passed over: {instead}." for unusable in self._unusable.values()]
        return causes if self._database_problem is None else [f"Predictions: {self._database_problem}", *causes]

    @property
    def has_champion(self) -> bool:
        return self._champion is not None

    @property
    def champion(self) -> LoadedModel:
        """The champion; the next best model, where that one cannot be used.

        Raises:
            Unavailable: There is none (yet).
        """
        champion = self._champion
        if champion is None:
            raise Unavailable(
                "There is no saved model yet: submit a run (POST /runs) and wait until it has succeeded.",
                slug="no-saved-model",
                headers={"Retry-After": str(NO_MODEL_RETRY_SECONDS)},
            )
        return champion

    def cached(self, run_id: str) -> LoadedModel | None:
        """The model of a run, if it is in memory."""
        champion = self._champion
        if champion is not None and champion.run_id == run_id:
            return champion
        with self._lock:
            if run_id in self._others:
                self._others.move_to_end(run_id)
            return self._others.get(run_id)

    def load(self, run_id: str) -> LoadedModel:
        """Load the model of a run from the database into the cache; the least recently used ones leave it.

        Raises:
            NotFound: There is no such run, or it has no saved model.
            DamagedData: The stored graph is not what was saved.
        """
        with self._loading:
            model = self.cached(run_id)  # by now, somebody else may have loaded it
            if model is None:
                with self._database.reading() as session:
                    model = LoadedModel.load(service.get_saved_model(session, run_id))
                self._keep(model)
        return model

    def find_first_champion(self) -> None:
        """Look for a champion now, while there is none."""
        with self._refreshing:
            if self._champion is None:
                self._refresh()

    def _keep(self, model: LoadedModel) -> None:
        if model.num_bytes > self._max_loaded_bytes:
            return
        with self._lock:
            self._others[model.run_id] = model
            num_bytes = sum(other.num_bytes for other in self._others.values())
            while num_bytes > self._max_loaded_bytes:
                _, forgotten = self._others.popitem(last=False)
                num_bytes -= forgotten.num_bytes

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            with self._refreshing:
                self._refresh()

    def _refresh(self) -> None:
        """Swap in a newly promoted champion; whatever goes wrong, the one before goes on answering."""
        try:
            with self._database.reading() as session:
                self._forget_deleted(session)
                champion = self._choose(session)
        except SQLAlchemyError as error:
            if self._database_problem is None:
                logger.error("Predictions: %s", describe_failure(error))
            self._database_problem = explain_failure(error)
        except Exception:  # following must go on, whatever this is
            logger.exception("The champion could not be looked for")
        else:
            self._database_problem = None
            if champion is not None and champion is not self._champion:
                logger.info("Champion is now run %s, val accuracy %.4f", champion.run_id, champion.val_accuracy)
            self._champion = champion

    def _choose(self, session: Session) -> LoadedModel | None:
        """The champion, or the best model that can be loaded in its place; None if there is none."""
        promotion = repository.get_champion(session)
        run_id = None if promotion is None else promotion.run_id
        passed_over: dict[str, _Unusable] = {}
        chosen = None
        while chosen is None and run_id is not None:
            tried = self._try(session, run_id)
            if isinstance(tried, LoadedModel):
                chosen = tried
            else:
                passed_over[run_id] = tried
                best = repository.best_canonical(session, excluding=passed_over)
                run_id = None if best is None else best.run_id
        self._unusable = passed_over
        return chosen

    def _try(self, session: Session, run_id: str) -> LoadedModel | _Unusable:
        """Load a model, unless it is in use already or could not be loaded a moment ago."""
        champion, known = self._champion, self._unusable.get(run_id)
        if champion is not None and champion.run_id == run_id:
            return champion
        if known is not None and time.monotonic() < known.retry_at:
            return known
        try:
            return LoadedModel.load(service.get_saved_model(session, run_id))
        except DamagedData as error:
            if known is None:
                logger.error("%s It is passed over.", error.detail, exc_info=error.__cause__)
            return _Unusable(error.detail, retry_at=time.monotonic() + UNUSABLE_RETRY_SECONDS)

    def _forget_deleted(self, session: Session) -> None:
        """A model that was deleted, here or by another process, answers no longer."""
        with self._lock:
            loaded = set(self._others)
        if deleted := loaded - repository.which_exist(session, loaded):
            with self._lock:
                for run_id in deleted:
                    self._others.pop(run_id, None)


@dataclass(frozen=True)
class _Unusable:
    """Why a model is passed over, and when to try it again: a backup may have been restored."""

    reason: str
    retry_at: float
