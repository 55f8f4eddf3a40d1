"""`POST /predict`: JSON or bytes in, JSON or bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from app.caching import cache_short
from app.http.dependencies import media_type_of
from app.http.negotiation import JSON, accepted
from app.http.openapi import parameters, reference
from app.http.problem import problems
from app.http.query import check_names
from app.http.threads import Lanes
from app.predictions.answers import MODEL_HEADERS, Writer, model_headers, to_bytes, to_json, to_lean_json
from app.predictions.batching import infer
from app.predictions.champion_look import ChampionLook
from app.predictions.instances import Pixels, parse_bytes, parse_instances
from app.predictions.predictor import LoadedModel, Predictor
from app.predictions.schemas import PredictOptions, PredictRequest, PredictResponse
from app.validation import parse_query

router = APIRouter(tags=["predict"])

BINARY = "application/octet-stream"
# A larger body is handled in a thread, so that other requests do not wait for it. A smaller one would take longer to
# switch to the thread and back than to handle. The sizes are bytes of JSON (with room for spaces) and of pixels.
INLINE_JSON_BYTES = 256 * 256
INLINE_BINARY_BYTES = 1024 * 64


async def _predictor(request: Request) -> Predictor:
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorDep = Annotated[Predictor, Depends(_predictor)]
_REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": reference(PredictRequest),
        BINARY: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "uint8, 64 bytes an image, row by row; 1 to 4,096 images.",
            }
        },
    },
}
_HEADERS = {name: {"schema": {"type": "string"}, "description": "With a binary answer."} for name in MODEL_HEADERS}
_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"With `Accept: {BINARY}`: one byte a digit, and the model in headers.",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        "headers": _HEADERS,
    }
}


# This decorator documents the operation; the fast path (`app.http.fast_path`) handles the requests.
@router.post(
    "/predict",
    operation_id="predict",
    summary="Classify images of digits",
    responses=problems(400, 404, 413, 415) | _RESPONSE,
    response_model=PredictResponse,
    openapi_extra={"parameters": parameters(PredictOptions), "requestBody": _REQUEST},
)
async def predict(request: Request) -> Response:
    """Answer from the best saved model, or from the one that `run_id` names.

    The answer says which model gave it; while a new champion is swapped in, a request is answered whole by one of them.
    Images come as JSON or, faster, as bytes; the answer is JSON unless `Accept` prefers bytes.
    """
    options = _parse_options(request.scope["query_string"])
    sends_bytes = media_type_of(request, BINARY) == BINARY
    wants_bytes = accepted(request.scope, JSON, BINARY) == BINARY
    body = await read_body(request)
    model = await find_model(request, options.run_id)
    parse = parse_bytes if sends_bytes else parse_instances
    write = to_bytes if wants_bytes else to_json if options.probabilities else to_lean_json
    if len(body) > (INLINE_BINARY_BYTES if sends_bytes else INLINE_JSON_BYTES):
        answer = await lanes_of(request).inference.run(_answer_alone, model, parse, body, write)
    else:
        answer = await request.app.state.batcher.answer(model, parse(body), write)
    if wants_bytes:
        return Response(answer, media_type=BINARY, headers=model_headers(model))
    return Response(answer, media_type="application/json")


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


@cache_short
def _parse_options(query: bytes) -> PredictOptions:
    check_names(query, dict.fromkeys(PredictOptions.model_fields, False))
    return parse_query(PredictOptions, query)


def _answer_alone(model: LoadedModel, parse: Callable[[bytes], Pixels], body: bytes, write: Writer) -> bytes:
    return write(model, *infer(model, parse(body)))
