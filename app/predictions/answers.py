"""Writes the body of a `/predict` response from probabilities: JSON, or one byte per digit and the model in headers.

Verdicts are in full JSON always, and elsewhere where a client asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from app.instruments import NUM_DIGITS
from app.predictions.instances import SIDE, Pixels
from app.predictions.predictor import LoadedModel, Probabilities
from app.predictions.verdicts import NAMES, Verdicts

# The JSON between the confidence of one prediction and that of the next.
_OPENINGS = np.array([b'},{"digit":%d,"confidence":' % digit for digit in range(NUM_DIGITS)], dtype=object)
# The JSON between a confidence and the end of its prediction.
_VERDICTS = np.array([b',"verdict":"%b"' % name.encode() for name in NAMES], dtype=object)
MODEL_HEADERS = ("Model-Run-Id", "Model-Val-Accuracy", "Model-Sha256")

Digits = npt.NDArray[np.int64]


Answer = TypeVar("Answer")
# Writes a response body from a model, its digits (int64, N), its probabilities (float32, N × 10) and its verdicts
# (uint8, N; None where the request does without them).
Writer = Callable[[LoadedModel, Digits, Probabilities, Verdicts | None], Answer]


def to_json(model: LoadedModel, digits: Digits, probabilities: Probabilities, verdicts: Verdicts | None) -> bytes:
    """Write a `PredictResponse`."""
    assert verdicts is not None
    rows = zip(digits.tolist(), probabilities, verdicts.tolist(), strict=True)
    predictions = [
        {"digit": digit, "confidence": row[digit], "verdict": NAMES[verdict], "probabilities": row}
        for digit, row, verdict in rows
    ]
    return orjson.dumps({"model": _describe(model), "predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def to_lean_json(model: LoadedModel, digits: Digits, probabilities: Probabilities, verdicts: Verdicts | None) -> bytes:
    """Write a `PredictResponse` without probabilities, in half the time that a dictionary for each image would take."""
    confidences = probabilities[np.arange(len(digits)), digits]  # faster than max(axis=1)
    numbers = orjson.dumps(confidences, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    width = 2 if verdicts is None else 3
    parts = [b""] * (width * len(digits))
    parts[0::width] = _OPENINGS.take(digits).tolist()
    parts[1::width] = numbers
    if verdicts is not None:
        parts[2::width] = _VERDICTS.take(verdicts).tolist()
    predictions = b"".join(parts).removeprefix(b"},") + b"}"
    return b'{"model":%b,"predictions":[%b]}' % (orjson.dumps(_describe(model)), predictions)


def to_bytes(_model: LoadedModel, digits: Digits, _probabilities: Probabilities, verdicts: Verdicts | None) -> bytes:
    """Write the digits, one byte each; with verdicts two bytes an image, the digit and the verdict's number."""
    if verdicts is None:
        return digits.astype(np.uint8).tobytes()
    return np.column_stack([digits.astype(np.uint8), verdicts]).tobytes()


def add_pixels(answer: bytes, pixels: Pixels) -> bytes:
    """Add to each prediction of a JSON answer the 8×8 pixels (uint8, N × 64) that the model saw."""
    document = orjson.loads(answer)
    for prediction, image in zip(document["predictions"], pixels.reshape(-1, SIDE, SIDE).tolist(), strict=True):
        prediction["pixels"] = image
    return orjson.dumps(document)


def _describe(model: LoadedModel) -> dict[str, str | float]:
    return {"run_id": model.run_id, "val_accuracy": model.val_accuracy, "sha256": model.sha256}


def model_headers(model: LoadedModel) -> dict[str, str]:
    """Return headers that name the model, for a body that has no room for it."""
    return dict(zip(MODEL_HEADERS, (model.run_id, str(model.val_accuracy), model.sha256), strict=True))
