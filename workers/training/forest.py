"""scikit-learn's random forest, trained tree by tree: an epoch is one tree."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss

from workers.training.checkpoint import TrainingState
from workers.training.config import NUM_CLASSES, NUM_PIXELS, ForestConfig, is_due
from workers.training.data import Pixels, SplitData
from workers.training.evaluation import Best, Metrics, Score
from workers.training.result import Result


class ForestTraining:
    """Grows `RandomForestClassifier(n_estimators, max_depth, random_state=seed)` by warm starts, one tree an epoch.

    Trees that are grown one by one equal those grown at once. A forest keeps no checkpoints: a resumed run grows all
    trees again. N are the samples of a split.
    """

    def __init__(self, config: ForestConfig, data: SplitData) -> None:
        self.config = config
        self.epoch = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.failure: str | None = None
        self.active = [self]
        self.provenance = {"engine": f"scikit-learn {sklearn.__version__}"}
        self._latest: Best | None = None
        self._has_stopped = False
        self._data = data
        self._forest = RandomForestClassifier(
            n_estimators=0, max_depth=config.max_depth, random_state=config.seed, warm_start=True
        )
        self._train_pixels = _flatten(data.train_pixels)
        self._val_pixels = _flatten(data.val_pixels)
        # Probabilities summed over the trees so far (N × 10), in the order in which predict_proba adds them up.
        self._train_sum = np.zeros((len(data.train_labels), NUM_CLASSES))
        self._val_sum = np.zeros((len(data.val_labels), NUM_CLASSES))

    @property
    def is_finished(self) -> bool:
        return self._has_stopped or self.epoch == self.config.n_estimators

    @property
    def num_done(self) -> int:
        return self.epoch  # a tree takes milliseconds, as it is at most 100 deep: epochs show enough progress

    def stop(self) -> None:
        """Finish the forest at this tree, which has been evaluated."""
        self._has_stopped = True

    def run_epoch(self) -> list[tuple[ForestTraining, Metrics]]:
        """Grow a tree; returns the forest's metrics if this epoch is due."""
        started = time.perf_counter()
        self.epoch += 1
        self._forest.set_params(n_estimators=self.epoch)
        self._forest.fit(self._train_pixels, self._data.train_labels)
        tree = self._forest.estimators_[-1]
        self._train_sum += tree.predict_proba(self._train_pixels)
        self._val_sum += tree.predict_proba(self._val_pixels)
        metrics = self._evaluate() if self._is_due() else None
        self.seconds += time.perf_counter() - started
        return [(self, metrics)] if metrics else []

    def leave(self) -> None:
        self.active.clear()

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """No checkpoints: see the class."""
        return {}

    def take_snapshots(self) -> list[TrainingState]:
        """No snapshots: a forest has no weights."""
        return []

    def result(self) -> Result:
        """The finished forest, always with all of its trees, never cut at the best epoch."""
        assert self._latest is not None
        forest = self._forest
        val_probabilities = forest.predict_proba(self._val_pixels).astype(np.float32)
        test_probabilities = test_accuracy = None
        if len(self._data.test_labels):
            test_probabilities = forest.predict_proba(_flatten(self._data.test_pixels)).astype(np.float32)
            test_accuracy = _score(test_probabilities, self._data.test_labels).accuracy
        num_nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
        return Result(forest, num_nodes, self._latest, val_probabilities, test_probabilities, test_accuracy)

    def _is_due(self) -> bool:
        return is_due(self.epoch, evaluate_every=self.config.evaluate_every, epochs=self.config.n_estimators)

    def _evaluate(self) -> Metrics:
        train = _score(self._train_sum / self.epoch, self._data.train_labels)
        val = _score(self._val_sum / self.epoch, self._data.val_labels)
        metrics = Metrics(self.epoch, *train, *train, *val, None, None, self.seconds)
        self._latest = Best.of(metrics)
        if self.best is None or self.best.is_beaten_by(self._latest):
            self.best = self._latest
        return metrics


def _score(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Score:
    """Loss and accuracy of predicted probabilities (N × 10).

    A forest often predicts a probability of 0 or 1; `log_loss` clips them, so the loss stays finite.
    """
    loss = log_loss(labels, probabilities, labels=range(NUM_CLASSES))
    return Score(float(loss), float((probabilities.argmax(axis=1) == labels).mean()))


def _flatten(pixels: Pixels) -> npt.NDArray[np.float32]:
    return pixels.reshape(-1, NUM_PIXELS).astype(np.float32)
