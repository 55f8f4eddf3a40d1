"""Endpoints that look inside a run: `/runs/{run_id}/curves.png`, `/summary`, `/weights`, `/confusion` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.charts.renderer import Picture, Renderer
from app.database import Database
from app.errors import FieldError
from app.http.dependencies import DatabaseDep, InTurn, ReadSession
from app.http.negotiation import BINARY, JSON, TEXT, VARY, accepted
from app.http.picture_responses import (
    MAX_ON_SHEET,
    PNG,
    SVG,
    IfNoneMatch,
    RendererDep,
    answer_picture,
    answer_unchanged,
    etag_of,
)
from app.http.problem import problems
from app.results import repository, service
from app.results.evaluations import compare, confusion_matrix, find_mistakes, list_predictions
from app.results.layers import LAYER_HEADERS, to_bytes, to_text
from app.results.schemas import (
    Comparison,
    Confusion,
    LayerWeights,
    Mistake,
    MistakePage,
    PredictionPage,
    PredictionSort,
    Summary,
)
from app.runs import service as runs
from app.runs.endpoints import RunId
from app.tables import Run, RunStatus
from app.validation import Id, invalid_input
from app.wording import count
from app.worker_registry.dependencies import WorkerWatchDep

router = APIRouter(tags=["inside a run"])

Format = Literal["png", "svg"]
Log = Annotated[bool, Query(description="Losses on a logarithmic scale.")]
Role = Annotated[Literal["best", "last"], Query(description="Whose epoch's weights.")]
Digit = Annotated[int | None, Query(ge=0, le=9)]
Offset = Annotated[int, Query(ge=0, le=10**6, description="Cursor: how many to leave out.")]
RunIds = Annotated[
    list[Id], Query(alias="run_id", min_length=1, max_length=service.MAX_RUNS, description="Up to twelve.")
]
MAX_MISTAKES = 1000


@router.get(
    "/runs/{run_id}/curves.png", summary="See a run's curves", responses=problems(404) | PNG, response_class=Response
)
def draw_curves(
    run_id: RunId, database: DatabaseDep, renderer: RendererDep, log: Log = False, if_none_match: IfNoneMatch = None
) -> Response:
    """Loss and accuracy over epochs, during training and after it: train as seen and re-evaluated, and val."""
    return _draw_curves(database, renderer, [run_id], "png", log=log, if_none_match=if_none_match)


@router.get(
    "/runs/{run_id}/curves.svg",
    summary="See a run's curves as SVG",
    responses=problems(404) | SVG,
    response_class=Response,
)
def draw_curves_as_svg(
    run_id: RunId, database: DatabaseDep, renderer: RendererDep, log: Log = False, if_none_match: IfNoneMatch = None
) -> Response:
    """The same as a drawing that can be scaled."""
    return _draw_curves(database, renderer, [run_id], "svg", log=log, if_none_match=if_none_match)


@router.get(
    "/charts/curves.png", summary="See several runs' curves", responses=problems(404) | PNG, response_class=Response
)
def draw_several_curves(
    run_id: RunIds, database: DatabaseDep, renderer: RendererDep, log: Log = False, if_none_match: IfNoneMatch = None
) -> Response:
    """Several runs in one picture; its legend names what differs between them."""
    return _draw_curves(database, renderer, run_id, "png", log=log, if_none_match=if_none_match)


@router.get(
    "/charts/curves.svg",
    summary="See several runs' curves as SVG",
    responses=problems(404) | SVG,
    response_class=Response,
)
def draw_several_curves_as_svg(
    run_id: RunIds, database: DatabaseDep, renderer: RendererDep, log: Log = False, if_none_match: IfNoneMatch = None
) -> Response:
    """The same as a drawing that can be scaled."""
    return _draw_curves(database, renderer, run_id, "svg", log=log, if_none_match=if_none_match)


def _draw_curves(
    database: Database,
    renderer: Renderer,
    run_ids: Sequence[str],
    format: Format,
    *,
    log: bool,
    if_none_match: str | None,
) -> Response:
    with database.reading() as session:
        found = [runs.get_run(session, run_id) for run_id in dict.fromkeys(run_ids)]
        etag = etag_of("curves", format, log, [_state(run) for run in found])
        if (known := answer_unchanged(etag, if_none_match)) is not None:
            return known
        data = {"format": format, "log": log, "runs": service.curves(session, found)}
    return answer_picture(renderer, Picture.CURVES, data, etag)


def _state(run: Run) -> list[Any]:
    """Return the values that change whenever a picture of the run changes."""
    return [run.id, run.name, run.status.value, run.epoch, run.best_epoch]


@router.get(
    "/runs/{run_id}/summary",
    summary="Read a run's layers",
    responses=problems(404) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_model=Summary,
    dependencies=[InTurn],
)
def get_summary(
    run_id: RunId, session: ReadSession, watch: WorkerWatchDep, request: Request, response: Response
) -> Any:
    """Shapes, parameters, weight and gradient norms, layer by layer; as a table with `Accept: text/plain`."""
    run = runs.get_run(session, run_id)
    summary = service.summarize(session, run)
    if run.status is RunStatus.QUEUED:
        summary.hint = watch.why_it_waits(session, run.device)
    if accepted(request.scope, JSON, TEXT) == TEXT:
        return Response(to_text(summary), media_type=TEXT, headers=VARY)
    response.headers.update(VARY)
    return summary


@router.get(
    "/runs/{run_id}/weights",
    summary="Read a layer's weights",
    responses=problems(404, 409) | {200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
    response_model=LayerWeights,
    dependencies=[InTurn],
)
def get_weights(
    run_id: RunId,
    session: ReadSession,
    request: Request,
    response: Response,
    layer: Annotated[int, Query(ge=1, le=9, description="Linear layers count from 1.")] = 1,
    role: Role = "best",
) -> Any:
    """Weights and biases at a checkpoint, during training too.

    With `Accept: application/octet-stream`: the weights row by row, then the biases, as little-endian float32;
    the headers `Layer-Shape` (outputs, inputs) and `Layer-Epoch` say what they are.
    """
    found = service.get_layer(session, runs.get_run(session, run_id), layer, role)
    if accepted(request.scope, JSON, BINARY) == BINARY:
        shape = f"{len(found.weights)}, {len(found.weights[0])}"
        headers = dict(zip(LAYER_HEADERS, (shape, str(found.epoch)), strict=True)) | VARY
        return Response(to_bytes(found), media_type=BINARY, headers=headers)
    response.headers.update(VARY)
    return found


@router.get(
    "/runs/{run_id}/weights.png",
    summary="See a run's first layer",
    responses=problems(404, 409) | PNG,
    response_class=Response,
)
def draw_weights(
    run_id: RunId, database: DatabaseDep, renderer: RendererDep, role: Role = "best", if_none_match: IfNoneMatch = None
) -> Response:
    """What each unit of the first hidden layer looks for, as 8×8 pictures on one scale that is centred on zero."""
    with database.reading() as session:
        run = runs.get_run(session, run_id)
        layer = service.get_layer(session, run, 1, role)
        etag = etag_of("weights", run.id, run.name, role, layer.epoch)
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    title = f"First-layer weights of {_title(run)}, {role} epoch {layer.epoch}"
    data = {"format": "png", "title": title, "units": layer.weights}
    return answer_picture(renderer, Picture.WEIGHTS, data, etag)


@router.get(
    "/runs/{run_id}/gradients.png",
    summary="See a run's gradients",
    responses=problems(404, 409) | PNG,
    response_class=Response,
)
def draw_gradients(
    run_id: RunId, database: DatabaseDep, renderer: RendererDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Each layer's gradient norm over epochs: where it is small, a layer learns slowly."""
    with database.reading() as session:
        run = runs.get_run(session, run_id)
        service.require_network(run)
        etag = etag_of("gradients", _state(run))
        if (known := answer_unchanged(etag, if_none_match)) is not None:
            return known
        epochs, norms = repository.read_gradients(session, run.id)
    data = {"format": "png", "title": f"Gradient norms of {_title(run)}", "epochs": epochs, "norms": norms}
    return answer_picture(renderer, Picture.GRADIENTS, data | {"layers": service.name_layers(run)}, etag)


@router.get(
    "/runs/{run_id}/confusion", summary="Read a run's confusion matrix", responses=problems(404), dependencies=[InTurn]
)
def get_confusion(run_id: RunId, session: ReadSession) -> Confusion:
    """Of its saved model on val: counts, shares of each true digit, precision and recall."""
    return confusion_matrix(service.evaluate(session, runs.get_run(session, run_id)))


@router.get(
    "/runs/{run_id}/confusion.png",
    summary="See a run's confusion matrix",
    responses=problems(404) | PNG,
    response_class=Response,
)
def draw_confusion(
    run_id: RunId, database: DatabaseDep, renderer: RendererDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Counts and shares of each true digit, side by side."""
    with database.reading() as session:
        run = runs.get_run(session, run_id)
        found = confusion_matrix(service.evaluate(session, run))
    etag = etag_of("confusion", run.id, run.name)
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    title = f"Confusion of {_title(run)} on val, accuracy {found.accuracy:.2%}"
    return answer_picture(renderer, Picture.CONFUSION, {"format": "png", "title": title, **found.model_dump()}, etag)


@router.get(
    "/runs/{run_id}/mistakes",
    summary="Read a run's mistakes",
    responses=problems(404, 409),
    response_model=MistakePage | Comparison,
    dependencies=[InTurn],
)
def list_mistakes(
    run_id: RunId,
    session: ReadSession,
    label: Digit = None,
    predicted: Digit = None,
    against: Annotated[Id | None, Query(description="Another run on the same split: who makes which mistake.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_MISTAKES)] = 100,
    after: Offset = 0,
) -> Any:
    """Images of val that the saved model gets wrong, the most confident first."""
    run = runs.get_run(session, run_id)
    mine = find_mistakes(service.evaluate(session, run), label=label, predicted=predicted)
    if against is None:
        page, has_more = mine[after : after + limit], after + limit < len(mine)
        return MistakePage(data=page, has_more=has_more, next=str(after + limit) if has_more else None, total=len(mine))
    return compare(mine, _mistakes_of_other(session, run, against, label, predicted), against)


@router.get(
    "/runs/{run_id}/predictions",
    summary="Read a run's predictions on val",
    responses=problems(404),
    dependencies=[InTurn],
)
def list_val_predictions(
    run_id: RunId,
    session: ReadSession,
    label: Digit = None,
    predicted: Digit = None,
    sort: Annotated[
        PredictionSort, Query(description="`confidence`: least sure first; `index`: as in the dataset.")
    ] = "index",
    limit: Annotated[int, Query(ge=1, le=MAX_MISTAKES)] = 100,
    after: Offset = 0,
) -> PredictionPage:
    """Images of val with the saved model's ten probabilities, whether it is right or wrong."""
    found = service.evaluate(session, runs.get_run(session, run_id))
    page, total = list_predictions(found, label=label, predicted=predicted, sort=sort, limit=limit, after=after)
    has_more = after + limit < total
    return PredictionPage(data=page, has_more=has_more, next=str(after + limit) if has_more else None, total=total)


def _mistakes_of_other(
    session: Session, run: Run, against: str, label: int | None, predicted: int | None
) -> list[Mistake]:
    if against == run.id:
        raise invalid_input([FieldError("?against", "Name another run")])
    other = runs.get_run(session, against)
    return find_mistakes(service.evaluate_against(session, run, other), label=label, predicted=predicted)


@router.get(
    "/runs/{run_id}/mistakes.png",
    summary="See a run's mistakes",
    responses=problems(404) | PNG,
    response_class=Response,
)
def draw_mistakes(
    run_id: RunId,
    database: DatabaseDep,
    renderer: RendererDep,
    label: Digit = None,
    predicted: Digit = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The same as a sheet: true digit → predicted one, and how confident the model was."""
    with database.reading() as session:
        run = runs.get_run(session, run_id)
        found = find_mistakes(service.evaluate(session, run), label=label, predicted=predicted)
    etag = etag_of("mistakes", run.id, run.name, label, predicted)
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    captions = [f"{each.label} → {each.predicted}\n{each.confidence:.0%}" for each in found]
    shown = found[:MAX_ON_SHEET]
    note = "true digit → predicted one, with its probability"
    data = {
        "format": "png",
        "title": f"{count(len(found), 'mistake')} of {_title(run)} on val",
        "note": note if len(shown) == len(found) else f"{note}; the {MAX_ON_SHEET} most confident",
        "images": [{"pixels": each.pixels, "caption": caption} for each, caption in zip(shown, captions, strict=False)],
    }
    return answer_picture(renderer, Picture.DIGITS, data, etag)


def _title(run: Run) -> str:
    return run.name or f"run {run.id}"
