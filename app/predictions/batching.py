"""Requests that arrive together are inferred together, as model servers do it.

All that a turn of the event loop has read is one run of ONNX Runtime. Under load that saves more than the runs:
reading, inferring and answering are each done for many requests in a row, with their code in the processor's caches.
"""

from __future__ import annotations

import asyncio

import numpy as np

from app import instruments
from app.predictions.answers import Digits
from app.predictions.instances import MAX_INSTANCES, Pixels
from app.predictions.predictor import LoadedModel, Probabilities

Answer = tuple[Digits, Probabilities]


def infer(model: LoadedModel, pixels: Pixels) -> Answer:
    """Digits (int64, N) and probabilities (float32, N × 10) of N × 64 pixels, counted for Prometheus."""
    probabilities = model.predict(pixels)
    digits = probabilities.argmax(axis=1)
    instruments.count_predictions(digits)
    return digits, probabilities


class Batcher:
    """Collects requests until the event loop's next turn, and waits no longer. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[LoadedModel, Pixels, asyncio.Future[Answer]]] = []
        self._num_images = 0

    async def infer(self, model: LoadedModel, pixels: Pixels) -> Answer:
        """The same as `infer`, whole by this model; together with others that ask it now."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((model, pixels, future))
        self._num_images += len(pixels)
        if self._num_images >= MAX_INSTANCES:
            self._answer()
        return await future

    def _answer(self) -> None:
        waiting, self._waiting, self._num_images = self._waiting, [], 0
        by_model: dict[int, list[tuple[LoadedModel, Pixels, asyncio.Future[Answer]]]] = {}
        for request in waiting:
            by_model.setdefault(id(request[0]), []).append(request)
        for requests in by_model.values():
            _answer_together(requests)


def _answer_together(requests: list[tuple[LoadedModel, Pixels, asyncio.Future[Answer]]]) -> None:
    """Requests to one model."""
    model = requests[0][0]
    futures = [future for _, _, future in requests]
    try:
        together = np.concatenate([pixels for _, pixels, _ in requests], dtype=np.float32)
        digits, probabilities = infer(model, together)
    except Exception as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)
        return
    start = 0
    for (_, pixels, _), future in zip(requests, futures, strict=True):
        end = start + len(pixels)
        if not future.done():  # its client may have left
            future.set_result((digits[start:end], probabilities[start:end]))
        start = end
