"""Batches requests that arrive together into one forward pass, as model servers do.

The requests to one model that one turn of the event loop has read become one call of ONNX Runtime, or several beyond
4,096 images. This saves more than calls under load: reading, predicting and responding are each done for many requests
in a row, with their code in the processor's caches.
"""

from __future__ import annotations

import asyncio
from typing import Any, Generic, NamedTuple

import numpy as np
import numpy.typing as npt

from app import instruments
from app.predictions.answers import Answer, Digits, Writer
from app.predictions.instances import MAX_INSTANCES, Pixels
from app.predictions.predictor import LoadedModel, Probabilities
from app.predictions.verdicts import BLANK, NOT_A_DIGIT, Verdicts


class Asked(NamedTuple, Generic[Answer]):
    """The images of a request, how their predictions are written, and whether that needs verdicts."""

    pixels: Pixels
    write: Writer[Answer]
    with_verdicts: bool
    are_shaped: npt.NDArray[np.bool_] | None = None  # N, of pictures and strokes: whether they can be digits by shape

    def judged(self, verdicts: Verdicts | None) -> Verdicts | None:
        """Return this request's verdicts, N, where it wants them: what has no digit's shape is no digit."""
        if verdicts is None or not self.with_verdicts:
            return None
        if self.are_shaped is None or self.are_shaped.all():
            return verdicts
        return np.where(self.are_shaped | (verdicts == BLANK), verdicts, NOT_A_DIGIT)


def infer(model: LoadedModel, pixels: Pixels, *, with_verdicts: bool) -> tuple[Digits, Probabilities, Verdicts | None]:
    """Predict digits (int64, N) and probabilities (float32, N × 10) for N × 64 pixels; count them for Prometheus.

    Verdicts (uint8, N) are None where they are not wanted.
    """
    verdicts = None
    if with_verdicts:
        probabilities, verdicts = model.predict_and_judge(pixels)
    else:
        probabilities = model.predict(pixels)
    digits = probabilities.argmax(axis=1)
    instruments.count_predictions(digits)
    return digits, probabilities, verdicts


class _Waiting(NamedTuple):
    """A waiting request, and the future that receives its response body."""

    model: LoadedModel
    asked: Asked[Any]
    answer: asyncio.Future[Any]


class Batcher:
    """Collects requests until the event loop's next turn, and no longer. A batcher belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._num_images = 0

    async def answer(self, model: LoadedModel, asked: Asked[Answer]) -> Answer:
        """Return the body that the request's writer makes.

        This model alone predicts, batched with concurrent requests to it.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer_all)
        waiting = _Waiting(model, asked, loop.create_future())
        self._waiting.append(waiting)
        self._num_images += len(asked.pixels)
        if self._num_images >= MAX_INSTANCES:
            self._answer_all()
        answer: Answer = await waiting.answer
        return answer

    def _answer_all(self) -> None:
        requests, self._waiting, self._num_images = self._waiting, [], 0
        by_model: dict[int, list[_Waiting]] = {}
        for request in requests:
            by_model.setdefault(id(request.model), []).append(request)
        for together in by_model.values():
            try:
                _answer_together(together)
            except Exception as error:
                for request in together:
                    if not request.answer.done():
                        request.answer.set_exception(error)


def _answer_together(requests: list[_Waiting]) -> None:
    """Predict for requests to one model in one forward pass, and resolve their futures."""
    model = requests[0].model
    pixels = np.concatenate([request.asked.pixels for request in requests], dtype=np.float32)
    with_verdicts = any(request.asked.with_verdicts for request in requests)
    digits, probabilities, verdicts = infer(model, pixels, with_verdicts=with_verdicts)
    start = 0
    for request in requests:
        end = start + len(request.asked.pixels)
        if not request.answer.done():  # the client may have disconnected
            judged = request.asked.judged(None if verdicts is None else verdicts[start:end])
            request.answer.set_result(request.asked.write(model, digits[start:end], probabilities[start:end], judged))
        start = end
