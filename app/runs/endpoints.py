"""Endpoints of `/runs`. Endpoints for a run's results are in `app.results`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response, status
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.events import service as event_service
from app.events.endpoints import EventLimit
from app.events.repository import EventFilter
from app.events.schemas import EventView
from app.events.stream import (
    EventCursor,
    EventStreamResponse,
    EventTypes,
    FeedDep,
    LastEventId,
    Stream,
    respond,
)
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
from app.http.head import is_head
from app.http.json_bodies import JsonRoute
from app.http.problem import problems
from app.paging import MAX_PAGE, Page
from app.run_config import ModelKind
from app.runs import repository, service, speed
from app.runs.filters import RunFilters
from app.runs.schemas import Plan, RunCounts, RunPage, RunPatch, RunSort, RunSubmission, RunView
from app.tables import Run, RunStatus
from app.validation import TEXT, Id
from app.worker_registry.dependencies import WorkerWatchDep
from app.worker_registry.repository import WorkerWatch

router = APIRouter(tags=["runs"], route_class=JsonRoute)

RunId = Annotated[Id, Path(min_length=1, description="The run's id.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the client, and sent again with the same body when it got no answer: it queues one run.",
    ),
]


SubmissionBody = Annotated[
    dict[str, Any],
    DescribedAs(RunSubmission),
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
            "ensemble": {
                "summary": "The mean of networks that are trained already",
                "value": {
                    "model": {
                        "kind": "ensemble",
                        "members": ["01a20e0d-2749-744b-97b3-2c4e726a71a1", "01a20e0d-2749-744b-97b3-2c4e726a71a2"],
                    }
                },
            },
        }
    ),
]


@router.post(
    "/runs",
    summary="Submit a run",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(400, 404, 409, 413, 415, 429, 507)
    | {200: {"model": Plan, "description": "With `dry_run`: the plan."}},
    response_model=RunView,
    dependencies=[AdminUnlessDry, JsonOnly],
)
def submit_run(
    document: SubmissionBody,
    database: DatabaseDep,
    watch: WorkerWatchDep,
    settings: SettingsDep,
    response: Response,
    dry_run: DryRun,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Queue a run for training.

    The body is part of a configuration. What it leaves out comes from the defaults, from `preset`, or from the run that
    `from_run` names; objects merge field by field, and a `model` or `optimizer` of another `kind` replaces the whole.
    An `ensemble` is made of other runs' saved models: dataset and split are theirs.
    The same `Idempotency-Key` and body answer the same run, however often they come.
    """
    if dry_run:
        with database.reading() as session:
            prepared = service.prepare(session, document)
            hint = watch.why_it_waits(session, prepared.config.device)
            seconds = speed.estimate_alone(session, prepared.config)
        plan = Plan(
            config=prepared.config,
            num_parameters=prepared.num_parameters,
            num_steps=prepared.config.num_steps,
            estimated_bytes=prepared.estimated_bytes,
            estimated_seconds=seconds,
            hint=hint,
        )
        return Response(plan.model_dump_json(), media_type="application/json")
    run = service.submit(
        database,
        document,
        idempotency_key=idempotency_key,
        max_queued_runs=settings.max_queued_runs,
        disk_quota_bytes=settings.disk_quota_bytes,
    )
    response.headers["Location"] = f"/runs/{run.id}"
    with database.reading() as session:
        return _view(session, watch, run)


@router.get("/runs", summary="List runs", responses=problems())
def list_runs(
    session: ReadSession,
    watch: WorkerWatchDep,
    status: Annotated[
        list[RunStatus], Query(max_length=len(RunStatus), description="May be given several times.")
    ] = [],  # noqa: B006, FastAPI copies it
    id: Annotated[
        list[Id], Query(max_length=MAX_PAGE, description="May be given several times; unknown ids are left out.")
    ] = [],  # noqa: B006
    sweep_id: Annotated[Id | None, Query(description="`none`: runs that are no trials.")] = None,
    q: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=TEXT,
            description="Words, each of which occurs in the name, the notes, the id or a tag (as `key:value`). "
            "Upper and lower case are the same, in ASCII at least.",
        ),
    ] = None,
    model_kind: ModelKind | None = None,
    tag: Annotated[
        str | None, Query(max_length=300, pattern=r"^[A-Za-z0-9_.-]{1,64}:[^\x00]*$", description="As `key:value`.")
    ] = None,
    sort: Annotated[
        RunSort, Query(description="`-` for descending; runs without the value come last.")
    ] = "-created_at",
    counts: Annotated[bool, Query(description="Count the runs of each status beside the page.")] = False,
    limit: Limit = 50,
    after: After = None,
) -> RunPage:
    """Newest first, unless `sort` says otherwise."""
    key, _, value = (tag or "").partition(":")
    filters = RunFilters(
        ids=id,
        statuses=status,
        sweep_id=sweep_id,
        model_kind=model_kind,
        tag=(key, value) if tag is not None else None,
        text=q,
    )
    runs, cursor = repository.list_runs(session, which=filters.conditions(), sort=sort, limit=limit, after=after)
    page = RunPage(data=_views(session, watch, runs), has_more=cursor is not None, next=cursor)
    if counts:
        page.counts = RunCounts.of(repository.count_by_status(session, filters.conditions(of_any_status=True)))
    return page


@router.get("/runs/{run_id}", summary="Show a run", responses=problems(404))
def get_run(run_id: RunId, session: ReadSession, watch: WorkerWatchDep) -> RunView:
    """Its configuration, its progress, its place in the queue, and what came of it."""
    return _view(session, watch, service.get_run(session, run_id))


@router.patch(
    "/runs/{run_id}",
    summary="Rename, tag or prioritise a run",
    responses=problems(400, 404, 413, 415),
    dependencies=[JsonOnly],
)
def change_run(
    run_id: RunId,
    patch: Annotated[RunPatch, Body(examples=[{"name": "best so far", "tags": {"unit": "2"}, "priority": 10}])],
    session: WriteSession,
    watch: WorkerWatchDep,
) -> RunView:
    """Change name, notes, tags or priority at any time; a field that is left out or null stays as it is."""
    return _view(session, watch, service.change(session, run_id, patch))


@router.post(
    "/runs/{run_id}/cancel",
    summary="Cancel a run",
    responses=problems(404, 409) | {202: {"model": RunView, "description": "It ends at the next epoch boundary."}},
)
def cancel_run(run_id: RunId, session: WriteSession, watch: WorkerWatchDep, response: Response) -> RunView:
    """A queued run is cancelled at once (200), a running one at its next epoch boundary (202).

    Repeating is harmless.
    """
    run = service.cancel(session, run_id)
    if not run.status.is_finished():
        response.status_code = status.HTTP_202_ACCEPTED
    return _view(session, watch, run)


@router.post(
    "/runs/{run_id}/pause",
    summary="Pause a run",
    responses=problems(404, 409) | {202: {"model": RunView, "description": "It pauses at the next epoch boundary."}},
)
def pause_run(run_id: RunId, session: WriteSession, watch: WorkerWatchDep, response: Response) -> RunView:
    """A queued run is set aside at once (200), a running one at its next epoch boundary (202), with its checkpoint.

    Repeating is harmless.
    """
    run = service.pause(session, run_id)
    if run.status is RunStatus.RUNNING:
        response.status_code = status.HTTP_202_ACCEPTED
    return _view(session, watch, run)


@router.post("/runs/{run_id}/resume", summary="Resume a paused run", responses=problems(404, 409))
def resume_run(run_id: RunId, session: WriteSession, watch: WorkerWatchDep) -> RunView:
    """It goes back to its place in the queue, and on from its checkpoint, as if it had never been paused.

    On a run that is not paused yet, it takes the request to pause back. Repeating is harmless.
    """
    return _view(session, watch, service.resume(session, run_id))


@router.delete(
    "/runs/{run_id}", summary="Delete a run", status_code=status.HTTP_204_NO_CONTENT, responses=problems(404, 409)
)
def delete_run(run_id: RunId, session: WriteSession) -> None:
    """A finished run and all that it holds: metrics, checkpoints, saved model, events.

    If it was the champion, the next best model takes its place. A trial goes with its sweep only, and a pinned champion
    stays.
    """
    service.delete(session, run_id)


@router.get("/runs/{run_id}/events", summary="Read a run's events", responses=problems(404), dependencies=[InTurn])
def list_run_events(
    run_id: RunId,
    session: ReadSession,
    types: EventTypes = [],  # noqa: B006, FastAPI copies it
    limit: EventLimit = 100,
    after: EventCursor = 0,
) -> Page[EventView]:
    """What has happened to it, oldest first."""
    run = service.get_run(session, run_id)
    wanted = EventFilter((run.id,), types=tuple(types))
    return event_service.page(session, wanted, after=after or 0, limit=limit)


async def _open_stream(
    request: Request,
    run_id: RunId,
    database: DatabaseDep,
    feed: FeedDep,
    types: EventTypes = [],  # noqa: B006, FastAPI copies it
    after: EventCursor = 0,
    last_event_id: LastEventId = None,
) -> AsyncIterator[Stream]:
    wanted = EventFilter((run_id,), types=tuple(types))
    if is_head(request):
        await run_in_threadpool(service.find_last_event, database, run_id)  # raises 404 if there is no such run
        yield Stream(feed, wanted, 0)
        return
    async with feed.join(after if last_event_id is None else last_event_id) as position:
        end = await run_in_threadpool(service.find_last_event, database, run_id)
        yield Stream(feed, wanted, position, end)


@router.get(
    "/runs/{run_id}/events/stream",
    summary="Follow a run's events",
    responses=problems(404),
    response_class=EventStreamResponse,
)
async def stream_run_events(stream: Annotated[Stream, Depends(_open_stream)]) -> EventStreamResponse:
    """Server-sent events from the run's beginning, or from `after` or `Last-Event-ID` on; it ends when the run has."""
    return respond(stream, stream.events_of_run())


def _view(session: Session, watch: WorkerWatch, run: Run) -> RunView:
    return _views(session, watch, [run])[0]


def _views(session: Session, watch: WorkerWatch, runs: Iterable[Run]) -> list[RunView]:
    runs = list(runs)
    queued = [run for run in runs if run.status is RunStatus.QUEUED]
    places = repository.queue_positions(session, [run.id for run in queued])
    hints = {device: watch.why_it_waits(session, device) for device in {run.device for run in queued}}
    return [
        RunView.of(run, places.get(run.id), hints.get(run.device) if run.status is RunStatus.QUEUED else None)
        for run in runs
    ]
