"""Models in memory: the current champion, and models requested by run id.

Predicting with a loaded model needs no database access: a separate thread looks for a new champion a few times per
second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import onnxruntime
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database, describe_failure, explain_failure
from app.datasets import service as datasets
from app.datasets.catalog import NUM_PIXELS
from app.errors import DamagedData, Unavailable
from app.models import repository, service
from app.predictions.instances import Pixels
from app.predictions.verdicts import Judge, TrainImages, Verdicts
from app.run_config import RunConfig
from app.tables import Run, SavedModel

logger = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float32]
NO_MODEL_RETRY_SECONDS = 2
# Estimated memory of an inference session: a fixed part, and a part per byte of the ONNX file. Measured per byte: 2 for
# networks, 4.0 to 4.7 for forests.
BYTES_PER_SESSION = 100_000
BYTES_PER_FILE_BYTE = 5
UNUSABLE_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class LoadedModel:
    """A saved model, ready to predict. It is immutable, so one model predicts all images of a request."""

    run_id: str
    val_accuracy: float
    sha256: str
    session: onnxruntime.InferenceSession
    num_bytes: int  # memory, estimated; without the train images, which models share
    judge: Judge
    is_evaluated: bool  # whether its thresholds were known when it was loaded

    @classmethod
    def load(cls, model: SavedModel, train_images: TrainImages | None = None) -> LoadedModel:
        """Create an inference session and run it once, so that the first request does not wait for the warm-up.

        Args:
            model: The saved model with its graph.
            train_images: Those of its split; None if its thresholds need none.

        Raises:
            DamagedData: ONNX Runtime cannot use the graph.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the graphs are too small to gain from more threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # this keeps memory flat over many swaps
        try:
            session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
            num_bytes = BYTES_PER_SESSION + BYTES_PER_FILE_BYTE * len(model.onnx)
            has_logits = any(output.name == "logits" for output in session.get_outputs())
            judge = Judge.of(model, train_images, has_logits=has_logits)
            is_evaluated = model.shifted_accuracy is not None
            loaded = cls(model.run_id, model.val_accuracy, model.sha256, session, num_bytes, judge, is_evaluated)
            loaded.predict_and_judge(np.zeros((1, NUM_PIXELS), np.float32))
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise DamagedData(f"The saved model of run {model.run_id} cannot be loaded.") from error
        return loaded

    def predict(self, pixels: Pixels) -> Probabilities:
        """Predict the probabilities of the ten digits.

        Args:
            pixels: float32 or uint8, N × 64, 0–16.

        Returns:
            Probabilities, float32, N × 10.
        """
        inputs = {"pixels": pixels.astype(np.float32, copy=False)}
        probabilities: Probabilities = self.session.run(["probabilities"], inputs)[0]
        return probabilities

    def predict_and_judge(self, pixels: Pixels) -> tuple[Probabilities, Verdicts]:
        """Predict as `predict` does, and judge each image (uint8, N)."""
        pixels = pixels.astype(np.float32, copy=False)
        if not self.judge.uses_energy:
            probabilities = self.predict(pixels)
            return probabilities, self.judge.judge(pixels, probabilities, None)
        probabilities, logits = self.session.run(["probabilities", "logits"], {"pixels": pixels})
        return probabilities, self.judge.judge(pixels, probabilities, logits)


class Predictor:
    """Holds the champion and a cache of other models. It is thread-safe.

    Args:
        database: Read by the predictor's own thread, and by the threads that load models.
        poll_seconds: Pause between two look-ups of the champion, in seconds.
        max_loaded_bytes: Largest size of the cache, in bytes. A larger model predicts, but is not kept.
    """

    def __init__(self, database: Database, *, poll_seconds: float, max_loaded_bytes: int) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._max_loaded_bytes = max_loaded_bytes
        self._champion: LoadedModel | None = None
        self._database_problem: str | None = None
        self._unusable: dict[str, _Unusable] = {}
        self._others: OrderedDict[str, LoadedModel] = OrderedDict()
        self._train_images: WeakValueDictionary[str, TrainImages] = WeakValueDictionary()  # by split, while in use
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
        """Sentences that say what keeps the database's champion from predicting."""
        champion = self._champion
        instead = "no other model answers" if champion is None else f"run {champion.run_id} answers"
        causes = [f"{unusable.reason} It is passed over: {instead}." for unusable in self._unusable.values()]
        return causes if self._database_problem is None else [f"Predictions: {self._database_problem}", *causes]

    @property
    def has_champion(self) -> bool:
        return self._champion is not None

    @property
    def champion(self) -> LoadedModel:
        """The champion, or the next best model if the champion cannot be used.

        Raises:
            Unavailable: There is no usable model (yet).
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
        """Return the model of a run if it is in memory."""
        champion = self._champion
        if champion is not None and champion.run_id == run_id:
            return champion
        with self._lock:
            if run_id in self._others:
                self._others.move_to_end(run_id)
            return self._others.get(run_id)

    def load(self, run_id: str) -> LoadedModel:
        """Load the model of a run from the database into the cache, which evicts the least recently used models.

        Raises:
            NotFound: There is no such run, or it has no saved model.
            DamagedData: The stored graph does not match its sha256, or cannot be loaded.
        """
        with self._loading:
            model = self.cached(run_id)  # another thread may have loaded it by now
            if model is None:
                with self._database.reading() as session:
                    model = self._read(session, run_id)
                self._keep(model)
        return model

    def find_first_champion(self) -> None:
        """Look for a champion now, if none is loaded."""
        with self._refreshing:
            if self._champion is None:
                self._refresh()

    def _keep(self, model: LoadedModel) -> None:
        if _count_bytes([model]) > self._max_loaded_bytes:
            return
        with self._lock:
            self._others[model.run_id] = model
            while _count_bytes(self._others.values()) > self._max_loaded_bytes:
                self._others.popitem(last=False)

    def _read(self, session: Session, run_id: str) -> LoadedModel:
        """Load the model of a run from the database, with the train images that its thresholds need.

        Raises:
            NotFound: There is no such run, or it has no saved model.
            DamagedData: The graph does not match its sha256, or cannot be loaded.
        """
        model = service.get_saved_model(session, run_id)
        if model.max_distance is None:
            return LoadedModel.load(model)
        config = RunConfig.model_validate(session.get_one(Run, run_id).config)
        key = f"{config.dataset} {config.split.model_dump_json()}"
        images = self._train_images.get(key)
        if images is None:
            try:
                pixels = datasets.get_train_pixels(session, config.dataset, config.split.columns)
            except (DamagedData, Unavailable) as error:
                logger.error("Verdicts of run %s do without the distance to train images: %s", run_id, error.detail)
                return LoadedModel.load(model)
            images = self._train_images[key] = TrainImages(pixels)
        return LoadedModel.load(model, images)

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            with self._refreshing:
                self._refresh()

    def _refresh(self) -> None:
        """Swap in a newly promoted champion; after any error, the previous one stays in use."""
        try:
            with self._database.reading() as session:
                self._forget_deleted(session)
                champion = self._choose(session)
        except SQLAlchemyError as error:
            if self._database_problem is None:
                logger.error("Predictions: %s", describe_failure(error))
            self._database_problem = explain_failure(error)
        except Exception:  # the thread must survive any error
            logger.exception("The champion could not be looked for")
        else:
            self._database_problem = None
            is_other = self._champion is None or champion is None or champion.run_id != self._champion.run_id
            if champion is not None and is_other:
                logger.info("Champion is now run %s, val accuracy %.4f", champion.run_id, champion.val_accuracy)
            self._champion = champion

    def _choose(self, session: Session) -> LoadedModel | None:
        """Return the champion, or the best model that can be loaded in its place; None if there is none."""
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
        """Load a model, unless it is the loaded champion or failed less than `UNUSABLE_RETRY_SECONDS` ago.

        A champion that was loaded before its thresholds were known is loaded again once they are.
        """
        champion, known = self._champion, self._unusable.get(run_id)
        if champion is not None and champion.run_id == run_id:
            if champion.is_evaluated or not repository.which_are_evaluated(session, [run_id]):
                return champion
            known = None
        if known is not None and time.monotonic() < known.retry_at:
            return known
        try:
            return self._read(session, run_id)
        except DamagedData as error:
            if known is None:
                logger.error("%s It is passed over.", error.detail, exc_info=error.__cause__)
            return _Unusable(error.detail, retry_at=time.monotonic() + UNUSABLE_RETRY_SECONDS)

    def _forget_deleted(self, session: Session) -> None:
        """Remove models from the cache whose runs were deleted, or whose thresholds have become known meanwhile."""
        with self._lock:
            loaded = set(self._others)
            without_thresholds = [run_id for run_id, model in self._others.items() if not model.is_evaluated]
        outdated = repository.which_are_evaluated(session, without_thresholds)
        if gone := outdated | loaded - repository.which_exist(session, loaded):
            with self._lock:
                for run_id in gone:
                    self._others.pop(run_id, None)


def _count_bytes(models: Collection[LoadedModel]) -> int:
    """Memory of models in bytes; train images that several share count once."""
    shared: dict[int, int] = {}
    for model in models:
        if (images := model.judge.train_images) is not None:
            shared[id(images)] = images.num_bytes
    return sum(model.num_bytes for model in models) + sum(shared.values())


@dataclass(frozen=True)
class _Unusable:
    """Why a model is passed over, and when to load it again: a backup may have been restored by then."""

    reason: str
    retry_at: float  # seconds, monotonic clock
