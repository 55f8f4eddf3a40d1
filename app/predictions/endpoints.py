"""`POST /predict`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.dependencies import JsonOnly
from app.predictions.instances import parse_instances
from app.predictions.predictor import LoadedModel, Predictor
from app.predictions.schemas import PredictRequest, PredictResponse
from app.problem import problems

router = APIRouter(tags=["predict"])

# Bodies beyond this (about 64 images) are worked on in a thread, so that other requests need not wait for them.
SMALL_BODY_BYTES = 16 * 1024


def _predictor(request: Request) -> Predictor:
    predictor: Predictor = request.app.state.predictor
    return predictor


PredictorDep = Annotated[Predictor, Depends(_predictor)]
RunId = Annotated[str | None, Query(max_length=36, description="Ask this run's model instead of the champion.")]


@router.post(
    "/predict",
    summary="Classify images of digits",
    responses=problems(400, 404, 413, 415),
    response_model=PredictResponse,
    dependencies=[JsonOnly],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": PredictRequest.model_json_schema()}},
        }
    },
)
async def predict(request: Request, predictor: PredictorDep, run_id: RunId = None) -> Response:
    """Answer from the best saved model, or from the one that `run_id` names.

    The answer says which model gave it; while a new champion is swapped in, a request is answered whole by one of them.
    """
    body = await request.body()
    model = predictor.champion if run_id is None else predictor.cached(run_id)
    if model is None and run_id is not None:
        model = await run_in_threadpool(predictor.load, run_id)
    assert model is not None
    if len(body) <= SMALL_BODY_BYTES:
        answer = _answer(model, body)
    else:
        answer = await run_in_threadpool(_answer, model, body)
    return Response(answer, media_type="application/json")


def _answer(model: LoadedModel, body: bytes) -> bytes:
    probabilities = model.predict(parse_instances(body))
    digits = probabilities.argmax(axis=1)
    confidences = np.take_along_axis(probabilities, digits[:, None], axis=1)[:, 0]
    document = {
        "model": {"run_id": model.run_id, "val_accuracy": model.val_accuracy, "sha256": model.sha256},
        "predictions": [
            {"digit": digit, "confidence": confidence, "probabilities": row}
            for digit, confidence, row in zip(digits.tolist(), confidences, probabilities, strict=True)
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
