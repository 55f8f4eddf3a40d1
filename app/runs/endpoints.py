"""`/runs` and `/presets`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Response, status
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlalchemy.orm import Session

from app.dependencies import After, JsonOnly, Limit, ReadSession, SettingsDep, WriteSession
from app.models import service as models
from app.paging import Page
from app.problem import problems
from app.runs import repository, service
from app.runs.metrics_csv import to_csv
from app.runs.presets import PRESETS, get_preset
from app.runs.schemas import (
    CheckpointView,
    MetricView,
    Plan,
    PresetView,
    RunPatch,
    RunSort,
    RunSubmission,
    RunView,
)
from app.tables import Run, RunStatus

router = APIRouter(tags=["runs"])
presets_router = APIRouter(tags=["presets"])

MAX_METRICS = 10_000

RunId = Annotated[str, Path(max_length=36, description="The run's id.")]


class _AsSubmission:
    """Documents a body as a `RunSubmission`; it is read as it stands, since defaults come from what it names."""

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(RunSubmission.__pydantic_core_schema__)


SubmissionBody = Annotated[
    dict[str, Any],
    _AsSubmission(),
    Body(
        openapi_examples={
            "defaults": {"summary": "The defaults make a good model", "value": {}},
            "preset": {
                "summary": "A preset, shortened",
                "value": {"preset": "dropout-tanh", "training": {"epochs": 60}},
            },
            "own": {
                "summary": "A configuration of your own",
                "value": {
                    "name": "wide relu",
                    "model": {"hidden_sizes": [128, 64], "activation": "relu"},
                    "training": {"optimizer": {"kind": "adam", "learning_rate": 0.003}, "batch_size": 50},
                },
            },
        }
    ),
]


@router.post(
    "/runs",
    summary="Submit a run",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(400, 404, 413, 415, 429) | {200: {"model": Plan, "description": "With `dry_run`: the plan."}},
    response_model=RunView,
    dependencies=[JsonOnly],
)
def submit_run(
    document: SubmissionBody,
    session: WriteSession,
    settings: SettingsDep,
    response: Response,
    dry_run: Annotated[bool, Query(description="Validate only, and answer what would be trained.")] = False,
) -> Any:
    """Queue a run for training.

    The body is part of a configuration. What it leaves out comes from the defaults, from `preset`, or from the run that
    `from_run` names; objects merge field by field, and a `model` or `optimizer` of another `kind` replaces the whole.
    """
    submission = service.prepare(session, document)
    if dry_run:
        config = submission.config
        plan = Plan(config=config, num_parameters=config.num_parameters, num_steps=config.num_steps)
        return Response(plan.model_dump_json(), media_type="application/json")
    run = service.submit(session, submission, max_queued_runs=settings.max_queued_runs)
    response.headers["Location"] = f"/runs/{run.id}"
    return _view(session, run)


@router.get("/runs", summary="List runs", responses=problems())
def list_runs(
    session: ReadSession,
    status: RunStatus | None = None,
    sweep_id: Annotated[str | None, Query(max_length=36)] = None,
    model_kind: Literal["mlp", "random_forest"] | None = None,
    tag: Annotated[
        str | None, Query(max_length=300, pattern=r"^[A-Za-z0-9_.-]{1,64}:", description="As `key:value`.")
    ] = None,
    sort: Annotated[
        RunSort, Query(description="`-` for descending; runs without the value come last.")
    ] = "-created_at",
    limit: Limit = 50,
    after: After = None,
) -> Page[RunView]:
    """Newest first, unless `sort` says otherwise."""
    key, _, value = (tag or "").partition(":")
    runs, cursor = repository.list_runs(
        session,
        status=status,
        sweep_id=sweep_id,
        model_kind=model_kind,
        tag=(key, value) if tag is not None else None,
        sort=sort,
        limit=limit,
        after=after,
    )
    return Page(data=_views(session, runs), has_more=cursor is not None, next=cursor)


@router.get("/runs/{run_id}", summary="Show a run", responses=problems(404))
def get_run(run_id: RunId, session: ReadSession) -> RunView:
    """Its configuration, its progress, its place in the queue, and what came of it."""
    return _view(session, service.get_run(session, run_id))


@router.patch(
    "/runs/{run_id}", summary="Rename or tag a run", responses=problems(400, 404, 413, 415), dependencies=[JsonOnly]
)
def change_run(
    run_id: RunId,
    patch: Annotated[RunPatch, Body(examples=[{"name": "best so far", "tags": {"unit": "2"}}])],
    session: WriteSession,
) -> RunView:
    """Change name, notes or tags at any time; a field that is left out or null stays as it is."""
    return _view(session, service.change(session, run_id, patch))


@router.post(
    "/runs/{run_id}/cancel",
    summary="Cancel a run",
    responses=problems(404, 409) | {202: {"model": RunView, "description": "It ends at the next epoch boundary."}},
)
def cancel_run(run_id: RunId, session: WriteSession, response: Response) -> RunView:
    """A queued run is cancelled at once (200), a running one at its next epoch boundary (202).

    Repeating is harmless.
    """
    run = service.cancel(session, run_id)
    if not run.status.is_finished():
        response.status_code = status.HTTP_202_ACCEPTED
    return _view(session, run)


@router.get(
    "/runs/{run_id}/metrics",
    summary="Read a run's metrics",
    responses=problems(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    response_model=Page[MetricView],
)
def list_metrics(
    run_id: RunId,
    session: ReadSession,
    format: Annotated[Literal["json", "csv"], Query(description="`csv` holds the whole history.")] = "json",
    points: Annotated[
        int | None, Query(ge=2, le=1000, description="Thin out to about so many; first, last and best stay.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_METRICS)] = 1000,
    after: Annotated[int, Query(ge=0, description="Cursor: an epoch; the entries behind it follow.")] = 0,
) -> Any:
    """Loss and accuracy on both splits, gradient and weight norms, by epoch."""
    run = service.get_run(session, run_id)
    if format == "csv":
        return Response(
            to_csv(service.history(session, run, after=after, limit=None, points=points)),
            media_type="text/csv",
            headers={"Content-Disposition": f'attachment; filename="{run.id}-metrics.csv"'},
        )
    metrics = service.history(session, run, after=after, limit=limit + 1, points=points)
    has_more = points is None and len(metrics) > limit
    if has_more:
        metrics = metrics[:limit]
    return Page(
        data=[MetricView.of(metric) for metric in metrics],
        has_more=has_more,
        next=str(metrics[-1].epoch) if has_more else None,
    )


@router.get("/runs/{run_id}/checkpoints", summary="List a run's checkpoints", responses=problems(404))
def list_checkpoints(run_id: RunId, session: ReadSession) -> Page[CheckpointView]:
    """`last`, from which the run resumes, and `best`, its best weights so far; a forest has none."""
    run = service.get_run(session, run_id)
    checkpoints = repository.list_checkpoints(session, run.id)
    return Page(data=[CheckpointView.of(checkpoint) for checkpoint in checkpoints])


@router.get(
    "/runs/{run_id}/checkpoints/{role}",
    summary="Download a checkpoint",
    responses=problems(404) | {200: {"content": {"application/octet-stream": {}}, "description": "safetensors"}},
    response_class=Response,
)
def download_checkpoint(run_id: RunId, role: Literal["best", "last"], session: ReadSession) -> Response:
    """A safetensors file; its ETag is its sha256."""
    run = service.get_run(session, run_id)
    checkpoint = service.get_checkpoint(session, run, role)
    return _download(checkpoint.blob, checkpoint.sha256, f"{run.id}-{role}.safetensors")


@router.get(
    "/runs/{run_id}/model.onnx",
    summary="Download a run's saved model",
    responses=problems(404) | {200: {"content": {"application/octet-stream": {}}, "description": "ONNX"}},
    response_class=Response,
)
def download_model(run_id: RunId, session: ReadSession) -> Response:
    """An ONNX file: input `pixels`, float32 N×64 with values 0–16; output `probabilities`, float32 N×10."""
    model = models.get_saved_model(session, run_id)
    return _download(model.onnx, model.sha256, f"{model.run_id}.onnx")


@presets_router.get("/presets", summary="List presets", responses=problems())
def list_presets() -> Page[PresetView]:
    """The notebook's configurations, ready to submit: `POST /runs {"preset": name}`."""
    return Page(data=[PresetView.of(preset) for preset in PRESETS.values()])


@presets_router.get("/presets/{name}", summary="Show a preset", responses=problems(404))
def show_preset(name: Annotated[str, Path(max_length=64, examples=["dropout-tanh"])]) -> PresetView:
    """Its full configuration, and which part of the notebook it comes from."""
    return PresetView.of(get_preset(name))


def _view(session: Session, run: Run) -> RunView:
    return _views(session, [run])[0]


def _views(session: Session, runs: Iterable[Run]) -> list[RunView]:
    runs = list(runs)
    places = repository.queue_positions(session, [run.id for run in runs if run.status is RunStatus.QUEUED])
    return [RunView.of(run, places.get(run.id)) for run in runs]


def _download(blob: bytes, sha256: str, filename: str) -> Response:
    headers = {"ETag": f'"{sha256}"', "Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(blob, media_type="application/octet-stream", headers=headers)
