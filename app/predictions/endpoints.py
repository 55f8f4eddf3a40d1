"""`POST /predict`: JSON or bytes in, JSON or bytes out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.caching import cache_short
from app.http.dependencies import media_type_of
from app.http.negotiation import JSON, accepted
from app.http.openapi import parameters, reference
from app.http.problem import problems
from app.http.query import check_names
from app.predictions.answers import MODEL_HEADERS, model_headers, to_bytes, to_json, to_lean_json
from app.predictions.batching import Asked
from app.predictions.inference import (
    INLINE_BINARY_BYTES,
    INLINE_JSON_BYTES,
    find_model,
    predict_body,
    read_body,
)
from app.predictions.instances import parse_bytes, parse_instances
from app.predictions.schemas import PredictOptions, PredictRequest, PredictResponse
from app.predictions.verdicts import NAMES
from app.validation import parse_query

router = APIRouter(tags=["predict"])

BINARY = "application/octet-stream"


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
    Images come as JSON or, faster, as bytes; the answer is JSON unless `Accept` prefers bytes.
    """
    options = _parse_options(request.scope["query_string"])
    sends_bytes = media_type_of(request, BINARY) == BINARY
    wants_bytes = accepted(request.scope, JSON, BINARY) == BINARY
    body = await read_body(request)
    model = await find_model(request, options.run_id)
    parse = parse_bytes if sends_bytes else parse_instances
    write = to_bytes if wants_bytes else to_json if options.probabilities else to_lean_json
    inline_bytes = INLINE_BINARY_BYTES if sends_bytes else INLINE_JSON_BYTES
    with_verdicts = options.verdict or write is to_json

    def read(body: bytes) -> Asked[bytes]:
        return Asked(parse(body), write, with_verdicts)

    answer = await predict_body(request, model, body, read, inline_bytes=inline_bytes)
    if wants_bytes:
        return Response(answer, media_type=BINARY, headers=model_headers(model))
    return Response(answer, media_type="application/json")


@cache_short
def _parse_options(query: bytes) -> PredictOptions:
    check_names(query, dict.fromkeys(PredictOptions.model_fields, False))
    return parse_query(PredictOptions, query)
