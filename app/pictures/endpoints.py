"""`POST /digitize`: pictures and strokes in, 8×8 pixels out. `POST /predict` takes the same bodies by itself."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from app.http.dependencies import JSON, media_type_of
from app.http.negotiation import BINARY, accepted
from app.http.openapi import any_of
from app.http.problem import problems
from app.pictures.requests import digitize
from app.pictures.schemas import TYPES, DigitizeResponse, PicturesRequest, StrokesRequest, picture_content
from app.predictions.inference import read_body
from app.predictions.instances import SIDE

router = APIRouter(tags=["predict"])

_BODY: dict[str, Any] = {
    "required": True,
    "content": {JSON: any_of(PicturesRequest, StrokesRequest), **picture_content()},
}
_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"With `Accept: {BINARY}`: 64 bytes an image, row by row.",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/digitize",
    operation_id="digitize_pictures",
    summary="Bring pictures and strokes to 8×8",
    responses=problems(400, 413, 415) | _RESPONSE,
    response_model=DigitizeResponse,
    openapi_extra={"requestBody": _BODY},
)
async def digitize_pictures(request: Request) -> Response:
    """Answer with what a model would see: for datasets, for `/v2`, or for a look at it."""
    media_type = media_type_of(request, *TYPES)
    pixels = (await digitize(request, media_type, await read_body(request))).pixels
    if accepted(request.scope, JSON, BINARY) == BINARY:
        return Response(pixels.tobytes(), media_type=BINARY)
    return Response(orjson.dumps({"pixels": pixels.reshape(-1, SIDE, SIDE).tolist()}), media_type=JSON)
