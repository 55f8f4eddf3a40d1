"""From probabilities to a `/predict` answer: JSON, or one byte a digit with the model in headers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson

from app.instruments import NUM_DIGITS
from app.predictions.predictor import LoadedModel, Probabilities

# Between one prediction and the next.
_OPENINGS = np.array([b'},{"digit":%d,"confidence":' % digit for digit in range(NUM_DIGITS)], dtype=object)
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
    about = {"run_id": model.run_id, "val_accuracy": model.val_accuracy, "sha256": model.sha256}
    if not with_probabilities:
        return b'{"model":%b,"predictions":[%b]}' % (orjson.dumps(about), _lean(digits, probabilities))
    rows = zip(digits.tolist(), probabilities, strict=True)
    predictions = [{"digit": digit, "confidence": row[digit], "probabilities": row} for digit, row in rows]
    return orjson.dumps({"model": about, "predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def _lean(digits: Digits, probabilities: Probabilities) -> bytes:
    """The predictions without their probabilities: half the time of a dictionary for each."""
    confidences = probabilities[np.arange(len(digits)), digits]  # sooner found than by max(axis=1)
    numbers = orjson.dumps(confidences, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    parts = [b""] * (2 * len(digits))
    parts[0::2] = _OPENINGS.take(digits).tolist()
    parts[1::2] = numbers
    return b"".join(parts)[2:] + b"}"


def to_bytes(digits: Digits) -> bytes:
    """The digits, one byte each."""
    return digits.astype(np.uint8).tobytes()


def model_headers(model: LoadedModel) -> dict[str, str]:
    """Who answers, beside a body that has no room for it."""
    return dict(zip(MODEL_HEADERS, (model.run_id, str(model.val_accuracy), model.sha256), strict=True))
