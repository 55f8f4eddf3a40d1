"""Endpoints of `/v2`: metadata, health and inference, as `tritonclient` and other clients request them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from app import __version__
from app.errors import NotFound, Unavailable
from app.http.dependencies import refuse_compression
from app.http.headers import find_header
from app.http.negotiation import BINARY
from app.http.openapi import reference
from app.http.problem import protocol_errors
from app.open_inference.schemas import (
    VERDICT,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReadiness,
    Readiness,
    ServerLiveness,
    ServerMetadata,
)
from app.open_inference.tensors import parse_request, write_response
from app.predictions.answers import Digits
from app.predictions.batching import Asked
from app.predictions.inference import (
    INLINE_BINARY_BYTES,
    PredictorDep,
    find_model,
    look_for_champion,
    predict_body,
    read_body,
)
from app.predictions.predictor import LoadedModel, Probabilities
from app.predictions.verdicts import Verdicts
from app.validation import Id

router = APIRouter(prefix="/v2", tags=["open inference"])

CHAMPION = "champion"
JSON_LENGTH = "Inference-Header-Content-Length"

Name = Annotated[Id, Path(min_length=1, description="`champion`, or a run's id.", examples=[CHAMPION])]
Version = Annotated[Id, Path(min_length=1, description="The id of the run that answers, a model's only version.")]

_REQUEST: dict[str, Any] = {
    "parameters": [
        {
            "name": JSON_LENGTH,
            "in": "header",
            "required": False,
            "description": "How many bytes of the body are JSON; the bytes of tensors follow.",
            "schema": {"type": "string", "pattern": "^[0-9]{0,9}$"},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": reference(InferRequest),
            BINARY: {"schema": {"type": "string", "format": "binary"}},
        },
    },
}
_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}, "description": "JSON, or more."}
}


@router.get("", summary="Describe the server", responses=protocol_errors())
async def get_server_metadata() -> ServerMetadata:
    """Its name, its version, and the extensions of the protocol that it knows."""
    return ServerMetadata(name="digitlab", version=__version__, extensions=["binary_tensor_data"])


@router.get("/health/live", summary="Is the server alive?", responses=protocol_errors())
async def get_server_liveness() -> ServerLiveness:
    """As soon as the API listens."""
    return ServerLiveness()


@router.get("/health/ready", summary="Can the server infer?", responses=protocol_errors())
async def get_server_readiness(request: Request, predictor: PredictorDep) -> Readiness:
    """When there is a champion."""
    await look_for_champion(request)
    if not predictor.has_champion:
        raise Unavailable("There is no saved model yet.", slug="no-saved-model")
    return Readiness()


@router.get("/models/{name}", summary="Describe a model", responses=protocol_errors(404))
async def get_model_metadata(name: Name, request: Request) -> ModelMetadata:
    """Inputs and outputs, and the run that answers."""
    return ModelMetadata(name=name, versions=[(await _find(request, name)).run_id])


@router.get("/models/{name}/versions/{version}", summary="Describe a model's version", responses=protocol_errors(404))
async def get_model_version_metadata(name: Name, version: Version, request: Request) -> ModelMetadata:
    """Inputs and outputs."""
    return ModelMetadata(name=name, versions=[(await _find(request, name, version)).run_id])


@router.get("/models/{name}/ready", summary="Can a model infer?", responses=protocol_errors(404))
async def get_model_readiness(name: Name, request: Request) -> ModelReadiness:
    """It is loaded, if it is not yet."""
    await _find(request, name)
    return ModelReadiness(name=name)


@router.get(
    "/models/{name}/versions/{version}/ready",
    summary="Can a model's version infer?",
    responses=protocol_errors(404),
)
async def get_model_version_readiness(name: Name, version: Version, request: Request) -> ModelReadiness:
    """It is loaded, if it is not yet."""
    await _find(request, name, version)
    return ModelReadiness(name=name)


@router.post(
    "/models/{name}/infer",
    summary="Infer",
    responses=protocol_errors(400, 404, 413, 415) | _RESPONSE,
    response_model=InferResponse,
    openapi_extra=_REQUEST,
)
async def infer(name: Name, request: Request) -> Response:
    """Probabilities, digits and, where asked for, verdicts for tensors of pixels.

    They come as JSON or, by the binary tensor extension, as bytes.
    """
    return await _infer(request, name, None)


@router.post(
    "/models/{name}/versions/{version}/infer",
    summary="Infer by a model's version",
    responses=protocol_errors(400, 404, 413, 415) | _RESPONSE,
    response_model=InferResponse,
    openapi_extra=_REQUEST,
)
async def infer_by_version(name: Name, version: Version, request: Request) -> Response:
    """The same, if the model has this version."""
    return await _infer(request, name, version)


async def _infer(request: Request, name: str, version: str | None) -> Response:
    refuse_compression(request)
    json_length = find_header(request.scope, JSON_LENGTH.lower().encode()).decode("latin-1") or None
    body = await read_body(request)
    model = await _find(request, name, version)

    def read(body: bytes) -> Asked[Response]:
        asked, pixels = parse_request(body, json_length)
        return Asked(pixels, partial(_respond, name, asked), any(output.name == VERDICT for output in asked.outputs))

    return await predict_body(request, model, body, read, inline_bytes=INLINE_BINARY_BYTES)


def _respond(
    name: str,
    asked: InferRequest,
    model: LoadedModel,
    digits: Digits,
    probabilities: Probabilities,
    verdicts: Verdicts | None,
) -> Response:
    answer, json_length = write_response(name, model, asked, digits, probabilities, verdicts)
    if json_length is None:
        return Response(answer, media_type="application/json")
    return Response(answer, media_type=BINARY, headers={JSON_LENGTH: str(json_length)})


async def _find(request: Request, name: str, version: str | None = None) -> LoadedModel:
    model = await find_model(request, None if name == CHAMPION else name)
    if version not in (None, model.run_id):
        raise NotFound(f"Model {name} has the version {model.run_id}, and not {version}.", slug="version-not-found")
    return model
