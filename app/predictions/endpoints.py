"""`POST /predict`: JSON, bytes, pictures or strokes in; JSON or bytes out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.caching import cache_short
from app.http.dependencies import media_type_of
from app.http.negotiation import BINARY, JSON, accepted
from app.http.openapi import any_of, parameters
from app.http.problem import problems
from app.http.query import check_names
from app.pictures.requests import digitize, has_drawings
from app.pictures.schemas import TYPES, PicturesRequest, StrokesRequest, picture_content
from app.predictions.answers import MODEL_HEADERS, Writer, add_pixels, model_headers, to_bytes, to_json, to_lean_json
from app.predictions.batching import Asked, Batcher
from app.predictions.inference import (
    INLINE_BINARY_BYTES,
    INLINE_JSON_BYTES,
    find_model,
    predict_body,
    read_body,
)
from app.predictions.instances import parse_bytes, parse_instances
from app.predictions.predictor import LoadedModel
from app.predictions.schemas import PredictOptions, PredictRequest, PredictResponse
from app.predictions.verdicts import NAMES
from app.validation import parse_query

router = APIRouter(tags=["predict"])


_REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": any_of(PredictRequest, PicturesRequest, StrokesRequest),
        BINARY: {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": "uint8, 64 bytes an image, row by row; 1 to 4,096 images.",
            }
        },
        **picture_content(),
    },
}
_HEADERS = {name: {"schema": {"type": "string"}, "description": "With a binary answer."} for name in MODEL_HEADERS}
_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"With `Accept: {BINARY}`: one byte a digit, and the model in headers. With `?verdict=true` a "
        f"second byte follows each digit: {', '.join(f'{number} {name}' for number, name in enumerate(NAMES))}.",
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
    Images come as JSON or, faster, as bytes; the answer is JSON unless `Accept` prefers bytes. Pictures and strokes are
    brought to 8×8 first, and the answer shows the `pixels` that the model saw.
    """
    options = _parse_options(request.scope["query_string"])
    media_type = media_type_of(request, BINARY, *TYPES)
    sends_bytes = media_type == BINARY
    wants_bytes = accepted(request.scope, JSON, BINARY) == BINARY
    body = await read_body(request)
    model = await find_model(request, options.run_id)
    write = to_bytes if wants_bytes else to_json if options.probabilities else to_lean_json
    with_verdicts = options.verdict or write is to_json
    if not sends_bytes and has_drawings(media_type, body):
        digitized = await digitize(request, media_type, body)
        asked = Asked(digitized.pixels, write, with_verdicts, digitized.are_shaped)
        return await _predict_drawings(request, model, asked)
    parse = parse_bytes if sends_bytes else parse_instances
    inline_bytes = INLINE_BINARY_BYTES if sends_bytes else INLINE_JSON_BYTES

    def read(body: bytes) -> Asked[bytes]:
        return Asked(parse(body), write, with_verdicts)

    answer = await predict_body(request, model, body, read, inline_bytes=inline_bytes)
    return _respond(model, answer, write)


async def _predict_drawings(request: Request, model: LoadedModel, asked: Asked[bytes]) -> Response:
    batcher: Batcher = request.app.state.batcher
    answer = await batcher.answer(model, asked)
    answer = answer if asked.write is to_bytes else add_pixels(answer, asked.pixels)
    return _respond(model, answer, asked.write)


def _respond(model: LoadedModel, answer: bytes, write: Writer[bytes]) -> Response:
    if write is to_bytes:
        return Response(answer, media_type=BINARY, headers=model_headers(model))
    return Response(answer, media_type="application/json")


@cache_short
def _parse_options(query: bytes) -> PredictOptions:
    check_names(query, dict.fromkeys(PredictOptions.model_fields, False))
    return parse_query(PredictOptions, query)
