"""Random forests: they equal scikit-learn's."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from tests.workers.training.conftest import Digits
from workers.training import export
from workers.training.config import ForestConfig
from workers.training.forest import ForestTraining


def test_a_forest_is_scikit_learn_s(digits: Digits) -> None:
    data = digits.data()
    training = ForestTraining(ForestConfig(seed=7, n_estimators=10, max_depth=10, evaluate_every=1), data)
    while not training.is_finished:
        training.run_epoch()
    result = training.result()
    whole = RandomForestClassifier(n_estimators=10, max_depth=10, random_state=7)
    whole.fit(data.train_pixels.reshape(-1, 64).astype(np.float32), data.train_labels)
    pixels = data.val_pixels.reshape(-1, 64).astype(np.float32)
    assert isinstance(result.model, RandomForestClassifier)
    assert np.array_equal(result.model.predict_proba(pixels), whole.predict_proba(pixels))
    assert 0.93 <= result.chosen.val_accuracy <= 0.975
    session = export.open_session(export.to_onnx(result.model, None))
    export.check(export.run(session, data.val_pixels), result.val_probabilities)
