"""From probabilities to a `/predict` answer: JSON, or one byte a digit with the model in headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from app.instruments import NUM_DIGITS
from app.predictions.predictor import LoadedModel, Probabilities

# Between one prediction and the next.
_OPENINGS = np.array([b'},{"digit":%d,"confidence":' % digit for digit in range(NUM_DIGITS)], dtype=object)
MODEL_HEADERS = ("Model-Run-Id", "Model-Val-Accuracy", "Model-Sha256")

Digits = npt.NDArray[np.int64]


Answer = TypeVar("Answer")
# Writes the answer of a model: digits (int64, N) and probabilities (float32, N × 10).
Writer = Callable[[LoadedModel, Digits, Probabilities], Answer]


def to_json(model: LoadedModel, digits: Digits, probabilities: Probabilities) -> bytes:
    """A `PredictResponse`."""
    rows = zip(digits.tolist(), probabilities, strict=True)
    predictions = [{"digit": digit, "confidence": row[digit], "probabilities": row} for digit, row in rows]
    return orjson.dumps({"model": _describe(model), "predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def to_lean_json(model: LoadedModel, digits: Digits, probabilities: Probabilities) -> bytes:
    """A `PredictResponse` without the probabilities, in half the time that a dictionary for each image would take."""
    confidences = probabilities[np.arange(len(digits)), digits]  # sooner found than by max(axis=1)
    numbers = orjson.dumps(confidences, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    parts = [b""] * (2 * len(digits))
    parts[0::2] = _OPENINGS.take(digits).tolist()
    parts[1::2] = numbers
    predictions = b"".join(parts).removeprefix(b"},") + b"}"
    return b'{"model":%b,"predictions":[%b]}' % (orjson.dumps(_describe(model)), predictions)


def to_bytes(_model: LoadedModel, digits: Digits, _probabilities: Probabilities) -> bytes:
    """The digits, one byte each."""
    return digits.astype(np.uint8).tobytes()


def _describe(model: LoadedModel) -> dict[str, str | float]:
    return {"run_id": model.run_id, "val_accuracy": model.val_accuracy, "sha256": model.sha256}


def model_headers(model: LoadedModel) -> dict[str, str]:
    """Who answers, beside a body that has no room for it."""
    return dict(zip(MODEL_HEADERS, (model.run_id, str(model.val_accuracy), model.sha256), strict=True))
