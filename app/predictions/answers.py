"""From probabilities to a `/predict` answer: JSON, or one byte a digit with the model in headers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson

from app.predictions.predictor import LoadedModel, Probabilities

MODEL_HEADERS = ("Model-Run-Id", "Model-Val-Accuracy", "Model-Sha256")

Digits = npt.NDArray[np.int64]


def to_json(model: LoadedModel, digits: Digits, probabilities: Probabilities, *, with_probabilities: bool) -> bytes:
    """A `PredictResponse`.

    Args:
        model: Who answers.
        digits: int64, N.
        probabilities: float32, N × 10.
        with_probabilities: Whether each prediction has all ten.
    """
    if with_probabilities:
        rows = zip(digits.tolist(), probabilities, strict=True)
        predictions = [{"digit": digit, "confidence": row[digit], "probabilities": row} for digit, row in rows]
    else:
        confidences = probabilities[np.arange(len(digits)), digits]  # sooner found than by max(axis=1)
        pairs = zip(digits.tolist(), confidences, strict=True)
        predictions = [{"digit": digit, "confidence": confidence} for digit, confidence in pairs]
    document = {
        "model": {"run_id": model.run_id, "val_accuracy": model.val_accuracy, "sha256": model.sha256},
        "predictions": predictions,
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def to_bytes(digits: Digits) -> bytes:
    """The digits, one byte each."""
    return digits.astype(np.uint8).tobytes()


def model_headers(model: LoadedModel) -> dict[str, str]:
    """Who answers, beside a body that has no room for it."""
    return dict(zip(MODEL_HEADERS, (model.run_id, str(model.val_accuracy), model.sha256), strict=True))
