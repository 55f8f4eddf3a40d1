"""The way from a request's body to its prediction, for `/predict` and the Open Inference Protocol alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect

from app.http.threads import Lanes
from app.predictions.answers import Answer
from app.predictions.batching import Asked, Batcher, infer
from app.predictions.champion_look import ChampionLook
from app.predictions.predictor import LoadedModel, Predictor

# A larger body is handled in a thread, so that other requests do not wait for it. The switch to a thread and back takes
# longer than the work for a smaller one. The sizes are bytes of JSON (with room for spaces) and of pixels.
INLINE_JSON_BYTES = 256 * 256
INLINE_BINARY_BYTES = 1024 * 64

# Parses a body into pixels, and says how their predictions are written.
Reader = Callable[[bytes], Asked[Answer]]


async def _predictor(request: Request) -> Predictor:
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorDep = Annotated[Predictor, Depends(_predictor)]


async def find_model(request: Request, run_id: str | None) -> LoadedModel:
    """Return the model of a run, or the champion; from memory if possible.

    Raises:
        Unavailable: There is no champion yet.
        NotFound: There is no such run, or it has no saved model.
        DamagedData: The saved model does not match its sha256, or cannot be loaded.
    """
    predictor: Predictor = request.app.state.predictor
    if run_id is None:
        if not predictor.has_champion:
            await look_for_champion(request)
        return predictor.champion
    loaded = predictor.cached(run_id)
    return loaded if loaded is not None else await lanes_of(request).loading.run(predictor.load, run_id)


async def look_for_champion(request: Request) -> None:
    """Load the first champion into memory, if the database has one by now."""
    look: ChampionLook = request.app.state.champion_look
    await look.wait()


def lanes_of(request: Request) -> Lanes:
    lanes: Lanes = request.app.state.lanes
    return lanes


async def read_body(request: Request) -> bytes:
    """Read the whole body; a body that arrives in one piece avoids the detour through a stream."""
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return bytes(message.get("body", b""))
    parts = [message]
    while parts[-1]["type"] == "http.request" and parts[-1].get("more_body", False):
        parts.append(await request.receive())
    if parts[-1]["type"] == "http.disconnect":
        raise ClientDisconnect
    return b"".join(part.get("body", b"") for part in parts)


async def predict_body(
    request: Request, model: LoadedModel, body: bytes, read: Reader[Answer], *, inline_bytes: int
) -> Answer:
    """Predict the images of a request's body by one model.

    Args:
        request: Leads to the application's batcher and threads.
        model: Predicts all images of the body.
        body: The bytes that the client sent.
        read: Parses the body, and chooses how its predictions are written. It raises `AppError`, the client's response.
        inline_bytes: A body up to this size is handled in the event loop, batched with those of concurrent requests; a
            larger one in a thread.

    Returns:
        What the writer makes of the predictions.
    """
    if len(body) > inline_bytes:
        return await lanes_of(request).inference.run(_predict_alone, model, read, body)
    batcher: Batcher = request.app.state.batcher
    return await batcher.answer(model, read(body))


def _predict_alone(model: LoadedModel, read: Reader[Answer], body: bytes) -> Answer:
    asked = read(body)
    return asked.write(model, *infer(model, asked.pixels, with_verdicts=asked.with_verdicts))
