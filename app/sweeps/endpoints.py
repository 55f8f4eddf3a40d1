"""Endpoints of `/sweeps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Request, Response, status
from sqlalchemy.orm import Session

from app.charts.renderer import Picture
from app.http.dependencies import (
    AdminUnlessDry,
    After,
    DatabaseDep,
    DescribedAs,
    DryRun,
    InTurn,
    JsonOnly,
    Limit,
    ReadSession,
    SettingsDep,
    WriteSession,
)
from app.http.json_bodies import JsonRoute
from app.http.negotiation import CSV, JSON, VARY, accepted
from app.http.picture_responses import (
    PNG,
    UNCHANGED,
    IfNoneMatch,
    RendererDep,
    answer_picture,
    answer_unchanged,
    etag_of,
)
from app.http.problem import problems
from app.paging import Page, cut, decode_cursor, encode_cursor
from app.presets.sweeps import SWEEP_PRESETS
from app.runs.endpoints import IdempotencyKey
from app.sweeps import estimate, repository, service, submission
from app.sweeps.report_csv import to_csv
from app.sweeps.schemas import SweepPlan, SweepReport, SweepSubmission, SweepView
from app.sweeps.views import view
from app.tables import Sweep
from app.validation import Id
from app.worker_registry.dependencies import WorkerWatchDep

router = APIRouter(tags=["sweeps"], route_class=JsonRoute)

SweepId = Annotated[Id, Path(min_length=1, description="The sweep's id.")]


SubmissionBody = Annotated[
    dict[str, Any],
    DescribedAs(SweepSubmission),
    Body(
        openapi_examples={
            "preset": {"summary": "A preset", "value": {"preset": "practice"}},
            "grid": {"summary": "A grid", "value": SWEEP_PRESETS["dropout"].sweep},
            "random": {
                "summary": "Points at random, hopeless ones ended early",
                "value": {
                    "search": {"kind": "random", "trials": 50, "seed": 0},
                    "parameters": {
                        "training.optimizer.learning_rate": {"low": 0.001, "high": 0.5, "log": True},
                        "model.dropout": {"low": 0.0, "high": 0.5},
                    },
                    "stopping": {"kind": "successive_halving", "rungs": 3, "reduction": 3},
                },
            },
        }
    ),
]


@router.post(
    "/sweeps",
    summary="Submit a sweep",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(400, 404, 413, 415, 429, 507)
    | {200: {"model": SweepPlan, "description": "With `dry_run`: how much it is."}},
    response_model=SweepView,
    dependencies=[AdminUnlessDry, JsonOnly],
)
def submit_sweep(
    document: SubmissionBody,
    database: DatabaseDep,
    watch: WorkerWatchDep,
    settings: SettingsDep,
    response: Response,
    dry_run: DryRun,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Queue the trials of a search over any field of a run's configuration.

    Every trial is a run. `repeats` trains each point with several seeds; `cross_validation` chooses by folds of the
    train split, and then trains the chosen point on all of it. The same `Idempotency-Key` and body answer the same
    sweep, however often they come.
    """
    limits = {"max_trials": settings.max_trials, "max_parameters": settings.max_parameters}
    if dry_run:
        with database.reading() as session:
            prepared = submission.prepare(session, document, **limits)
            trials, stack_bytes = [trial.config for trial in prepared.trials], settings.max_stack_bytes
            plan = estimate.plan(session, trials, num_points=len(prepared.points), max_stack_bytes=stack_bytes)
            hints = [watch.why_it_waits(session, device) for device in sorted({config.device for config in trials})]
            plan.hint = next((hint for hint in hints if hint is not None), None)
        return Response(plan.model_dump_json(), media_type="application/json")
    sweep = service.submit(
        database,
        document,
        idempotency_key=idempotency_key,
        max_queued_runs=settings.max_queued_runs,
        disk_quota_bytes=settings.disk_quota_bytes,
        **limits,
    )
    response.headers["Location"] = f"/sweeps/{sweep.id}"
    with database.reading() as session:
        return _view(session, sweep)


@router.get("/sweeps", summary="List sweeps", responses=problems())
def list_sweeps(
    session: ReadSession,
    points: Annotated[bool, Query(description="With each sweep's `points`, which may be thousands.")] = False,
    limit: Limit = 50,
    after: After = None,
) -> Page[SweepView]:
    """Newest first."""
    before = None if after is None else decode_cursor(after, str)[0]
    found = repository.list_sweeps(session, limit=limit + 1, before=before)
    sweeps, cursor = cut(found, limit, lambda sweep: encode_cursor(sweep.id))
    return Page.of(_views(session, sweeps, with_points=points), cursor)


@router.get("/sweeps/{sweep_id}", summary="Show a sweep", responses=problems(404))
def get_sweep(
    sweep_id: SweepId,
    session: ReadSession,
    points: Annotated[bool, Query(description="Without them, a sweep is small enough to be polled.")] = True,
) -> SweepView:
    """What it searches, how far it is, and its best trial so far. Its trials: `GET /runs?sweep_id=`."""
    return _view(session, service.get_sweep(session, sweep_id), with_points=points)


@router.get(
    "/sweeps/{sweep_id}/report",
    summary="Read a sweep's report",
    responses=problems(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}} | UNCHANGED,
    response_model=SweepReport,
    dependencies=[InTurn],
)
def get_report(
    sweep_id: SweepId,
    session: ReadSession,
    request: Request,
    format: Annotated[
        Literal["json", "csv"] | None,
        Query(description="`csv` holds the trials. Default: what `Accept` prefers, or else JSON."),
    ] = None,
    trials: Annotated[bool, Query(description="With the trials, which are most of the JSON.")] = True,
    if_none_match: IfNoneMatch = None,
) -> Any:
    """What it has found so far: trials and points ranked, what is noise, each parameter's effect, the Pareto front.

    Its ETag changes when a trial does, so a client that has the report asks for it again at little cost.
    """
    sweep = service.get_sweep(session, sweep_id)
    is_csv = (format or accepted(request.scope, JSON, CSV)) in ("csv", CSV)
    etag = "W/" + etag_of("report", is_csv, trials, service.fingerprint(session, sweep))
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        known.headers.update(VARY)
        return known
    found = service.report(session, sweep)
    headers = {"ETag": etag, "Cache-Control": "no-cache", **VARY}
    if is_csv:
        headers["Content-Disposition"] = f'attachment; filename="{sweep_id}-report.csv"'
        return Response(to_csv(found), media_type=CSV, headers=headers)
    if not trials:
        found.trials = None
    return Response(found.model_dump_json(), media_type=JSON, headers=headers)


@router.get(
    "/sweeps/{sweep_id}/report.png",
    summary="See a sweep's report",
    responses=problems(404) | PNG,
    response_class=Response,
)
def draw_report(
    sweep_id: SweepId, database: DatabaseDep, renderer: RendererDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The effect of each parameter, the Pareto front, and accuracy over the epochs of all trials."""
    with database.reading() as session:
        data = service.picture_data(session, service.get_sweep(session, sweep_id))
    etag = etag_of("sweep", data)
    known = answer_unchanged(etag, if_none_match)
    return answer_picture(renderer, Picture.SWEEP, data, etag) if known is None else known


@router.post(
    "/sweeps/{sweep_id}/cancel",
    summary="Cancel a sweep",
    responses=problems(404, 409) | {202: {"model": SweepView, "description": "It ends at the next epoch boundary."}},
)
def cancel_sweep(sweep_id: SweepId, session: WriteSession, response: Response) -> SweepView:
    """Its queued trials are cancelled at once, those in training at their next epoch boundary (202).

    Repeating is harmless.
    """
    seen = _view(session, service.cancel(session, sweep_id))
    if seen.status != "cancelled":
        response.status_code = status.HTTP_202_ACCEPTED
    return seen


@router.delete(
    "/sweeps/{sweep_id}", summary="Delete a sweep", status_code=status.HTTP_204_NO_CONTENT, responses=problems(404, 409)
)
def delete_sweep(sweep_id: SweepId, session: WriteSession) -> None:
    """A sweep whose trials have ended, and all that they hold."""
    service.delete(session, sweep_id)


def _view(session: Session, sweep: Sweep, *, with_points: bool = True) -> SweepView:
    return _views(session, [sweep], with_points=with_points)[0]


def _views(session: Session, sweeps: Sequence[Sweep], *, with_points: bool) -> list[SweepView]:
    session.flush()
    ids = [sweep.id for sweep in sweeps]
    tallies, best = repository.tally(session, ids), repository.best_trials(session, ids)
    return [view(sweep, tallies[sweep.id], best.get(sweep.id), with_points=with_points) for sweep in sweeps]
