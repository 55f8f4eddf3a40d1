"""Endpoints for a run's metrics, checkpoints and saved model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from app.http.dependencies import After, InTurn, ReadSession
from app.http.negotiation import CSV, JSON, VARY, accepted
from app.http.picture_responses import UNCHANGED, IfNoneMatch, answer_unchanged
from app.http.problem import problems
from app.models import service as models
from app.paging import MAX_PAGE, Page, cut
from app.results import service as results
from app.results.metrics_csv import to_csv
from app.results.schemas import Curve, Series
from app.runs import repository, service
from app.runs.endpoints import RunId
from app.runs.schemas import CheckpointView, MetricView
from app.validation import MAX_INTEGER, Id

router = APIRouter(tags=["runs"])

MAX_METRICS = 10_000
MAX_SERIES = 2000


@router.get(
    "/runs/{run_id}/metrics",
    summary="Read a run's metrics",
    responses=problems(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    response_model=Page[MetricView],
    dependencies=[InTurn],
)
def list_metrics(
    run_id: RunId,
    session: ReadSession,
    request: Request,
    response: Response,
    format: Annotated[
        Literal["json", "csv"] | None,
        Query(description="`csv` holds the whole history. Default: what `Accept` prefers, or else JSON."),
    ] = None,
    points: Annotated[
        int | None, Query(ge=2, le=1000, description="Thin the range out to about so many; first, last and best stay.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_METRICS)] = 1000,
    after: Annotated[
        int, Query(ge=0, le=MAX_INTEGER, description="Cursor: an epoch; the entries behind it follow.")
    ] = 0,
    until: Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="The last epoch. Default: the run's.")] = None,
) -> Any:
    """Loss and accuracy on both splits, gradient and weight norms, by epoch."""
    run = service.get_run(session, run_id)
    if (format or accepted(request.scope, JSON, CSV)) in ("csv", CSV):
        return Response(
            to_csv(service.history(session, run, after=after, until=until, limit=None, points=points)),
            media_type=CSV,
            headers={"Content-Disposition": f'attachment; filename="{run.id}-metrics.csv"', **VARY},
        )
    response.headers.update(VARY)
    found = service.history(session, run, after=after, until=until, limit=limit + 1, points=points)
    metrics, cursor = (found, None) if points is not None else cut(found, limit, lambda metric: str(metric.epoch))
    return Page.of([MetricView.of(metric) for metric in metrics], cursor)


@router.get(
    "/charts/series",
    summary="Read the curves of many runs",
    responses=problems(404),
    response_model=Page[Series],
    dependencies=[InTurn],
)
def list_series(
    session: ReadSession,
    run_id: Annotated[
        list[Id], Query(max_length=MAX_PAGE, description="May be given several times; unknown ids are left out.")
    ] = [],  # noqa: B006, FastAPI copies it
    sweep_id: Annotated[Id | None, Query(description="In place of `run_id`: the runs of this sweep.")] = None,
    field: Annotated[
        list[Curve], Query(min_length=1, max_length=6, description="Which metrics; may be given several times.")
    ] = ["val_accuracy"],  # noqa: B006
    points: Annotated[
        int, Query(ge=2, le=1000, description="About so many epochs of each run; first, last and best stay.")
    ] = 24,
    limit: Annotated[
        int, Query(ge=1, le=MAX_SERIES, description="Most runs; fewer where they would come to 500,000 numbers.")
    ] = MAX_SERIES,
    after: After = None,
) -> Response:
    """Metrics by epoch, thinned out, of many runs at once, one list per metric: as small pictures need them."""
    data, cursor = results.list_series(
        session,
        run_ids=run_id,
        sweep_id=sweep_id,
        columns=list(dict.fromkeys(field)),
        points=points,
        limit=limit,
        after=after,
    )
    page = {"data": data, "has_more": cursor is not None, "next": cursor}
    return Response(orjson.dumps(page), media_type=JSON)


@router.get("/runs/{run_id}/checkpoints", summary="List a run's checkpoints", responses=problems(404))
def list_checkpoints(run_id: RunId, session: ReadSession) -> Page[CheckpointView]:
    """`last`, from which the run resumes, and `best`, its best weights so far; a forest and an ensemble have none."""
    run = service.get_run(session, run_id)
    checkpoints = repository.list_checkpoints(session, run.id)
    return Page(data=[CheckpointView.of(checkpoint) for checkpoint in checkpoints])


@router.get(
    "/runs/{run_id}/checkpoints/{role}",
    summary="Download a checkpoint",
    responses=problems(404)
    | {200: {"content": {"application/octet-stream": {}}, "description": "safetensors"}}
    | UNCHANGED,
    response_class=Response,
    dependencies=[InTurn],
)
def download_checkpoint(
    run_id: RunId, role: Literal["best", "last"], session: ReadSession, if_none_match: IfNoneMatch = None
) -> Response:
    """A safetensors file; its ETag is its sha256."""
    run = service.get_run(session, run_id)
    checkpoint = service.get_checkpoint(session, run, role)
    return _download(checkpoint.blob, checkpoint.sha256, f"{run.id}-{role}.safetensors", if_none_match)


@router.get(
    "/runs/{run_id}/model.onnx",
    summary="Download a run's saved model",
    responses=problems(404) | {200: {"content": {"application/octet-stream": {}}, "description": "ONNX"}} | UNCHANGED,
    response_class=Response,
    dependencies=[InTurn],
)
def download_model(run_id: RunId, session: ReadSession, if_none_match: IfNoneMatch = None) -> Response:
    """An ONNX file: input `pixels`, float32 N×64 with values 0–16; output `probabilities`, float32 N×10."""
    model = models.get_saved_model(session, run_id)
    return _download(model.onnx, model.sha256, f"{model.run_id}.onnx", if_none_match)


def _download(blob: bytes, sha256: str, filename: str, if_none_match: str | None) -> Response:
    etag = f'"{sha256}"'
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(blob, media_type="application/octet-stream", headers=headers)
