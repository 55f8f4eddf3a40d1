"""The FastAPI application. `create_app(settings)` makes one; nothing happens at import time."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.middleware.cors import CORSMiddleware

from app import __version__, lifeline
from app.charts.renderer import Renderer
from app.database import Database
from app.datasets import endpoints as datasets
from app.events import endpoints as events
from app.events.feed import Feed
from app.health import endpoints as health
from app.http import access_endpoints as access
from app.http import documentation, problem
from app.http.access import KeyCheck
from app.http.body_limit import BodyLimit
from app.http.compression import Compression
from app.http.fast_path import Application, FastPath
from app.http.head import HeadAsGet
from app.http.observation import Observation
from app.http.openapi import describe
from app.http.origins import OriginCheck
from app.http.path_prefix import PathPrefix
from app.http.query import StrictQuery
from app.http.threads import Lanes, lend_soon
from app.http.turns import Queue, Turns
from app.logs import configure_logging
from app.models import endpoints as models
from app.monitoring import endpoints as monitoring
from app.open_inference import endpoints as open_inference
from app.open_inference.schemas import InferRequest
from app.pictures import endpoints as pictures
from app.pictures.schemas import PicturesRequest, StrokesRequest
from app.predictions import endpoints as predictions
from app.predictions.answers import MODEL_HEADERS
from app.predictions.batching import Batcher
from app.predictions.champion_look import ChampionLook
from app.predictions.predictor import Predictor
from app.predictions.schemas import PredictRequest
from app.presets import endpoints as presets
from app.results import endpoints as run_results
from app.results import inspection_endpoints as inspections
from app.results import snapshot_endpoints as run_snapshots
from app.results.layers import LAYER_HEADERS
from app.runs import endpoints as runs
from app.settings import Settings
from app.sweeps import endpoints as sweeps
from app.web import endpoints as web
from app.worker_registry import endpoints as workers
from app.worker_registry.repository import WorkerWatch

DESCRIPTION = """Trains and serves classifiers of 8×8 handwritten digits.

Submit a run (`POST /runs`), watch it (`GET /runs/{run_id}`), and ask the best saved model (`POST /predict`).
Every error is an `application/problem+json` body (RFC 9457)."""

# FastAPI's OpenTelemetry costs 5 µs a request even without an exporter; /metrics and logs serve that purpose.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


def create_app(settings: Settings) -> FastAPI:
    """Make the application for these settings. It expects a migrated database (`digitlab migrate`)."""
    app = Application(
        title="digitlab",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
        docs_url=None,  # `app.http.documentation` serves it
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.settings = settings
    app.state.worker_watch = WorkerWatch(settings.lease_seconds)
    # The middleware added last is the outermost.
    app.add_middleware(Compression)
    app.add_middleware(HeadAsGet)
    app.add_middleware(FastPath, router=predictions.router, handlers=app.exception_handlers)
    limits = {"max_body_bytes": settings.max_body_bytes, "max_buffered_bytes": settings.max_buffered_bytes}
    app.add_middleware(BodyLimit, **limits)
    if settings.keys:
        app.add_middleware(KeyCheck, keys=settings.keys)
    app.add_middleware(OriginCheck, allowed_hosts=settings.checked_hosts, allowed_origins=settings.cors_origins)
    if settings.root_path:
        app.add_middleware(PathPrefix, prefix=settings.root_path)
    app.add_middleware(Observation, logs_all=settings.log_requests == "all")
    problem.install(app)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location", "ETag", "Retry-After", "X-Request-ID", *LAYER_HEADERS, *MODEL_HEADERS],
        )
    for router in (
        runs.router,
        run_results.router,
        run_snapshots.router,
        sweeps.router,
        inspections.router,
        presets.router,
        events.router,
        models.router,
        predictions.router,
        pictures.router,
        datasets.router,
        workers.router,
        open_inference.router,
        access.router,
    ):
        app.include_router(router, dependencies=[StrictQuery])
    # Probes, scrapers and browsers may add query parameters of their own to these.
    for router in (health.router, monitoring.router, documentation.router, web.router):
        app.include_router(router)
    bodies: list[type[BaseModel]] = [PredictRequest, PicturesRequest, StrokesRequest, InferRequest]
    describe(app, bodies=bodies, with_keys=bool(settings.keys), server=settings.root_path or "/")
    return app


def create_from_environment() -> FastAPI:
    """Make the application of an API process from the environment's settings. The process ends with its parent."""
    settings = Settings()
    configure_logging("api", settings.log_format)
    lifeline.end_with_parent(partial(os.kill, os.getpid(), signal.SIGTERM))
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # a full collection took 55 ms, in which every request waits: it looked at each object of all modules
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    settings: Settings = app.state.settings
    database = Database(settings.resolved_database_url)
    reserved = Database(settings.resolved_database_url)  # connections that other requests cannot exhaust
    predictor = Predictor(
        reserved,
        poll_seconds=settings.champion_poll_seconds,
        max_loaded_bytes=settings.max_loaded_model_bytes,
    )
    app.state.database = database
    app.state.reserved_database = reserved
    lend_soon()
    app.state.lanes = Lanes()
    app.state.picture_turns, app.state.read_turns = (Turns(queue) for queue in _queues(settings))
    app.state.champion_look = ChampionLook(predictor, app.state.lanes.champion)
    app.state.predictor = predictor
    app.state.batcher = Batcher()
    app.state.renderer = Renderer()
    app.state.feed = Feed(database, settings.event_poll_seconds)
    await run_in_threadpool(predictor.start)
    following = asyncio.create_task(app.state.feed.follow())

    def end_waiting() -> None:
        for waiting in (app.state.feed, app.state.picture_turns, app.state.read_turns):
            waiting.close()

    yield {"end_streams": end_waiting}  # the server calls it when it shuts down
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    await run_in_threadpool(app.state.renderer.close)
    await run_in_threadpool(predictor.stop)
    reserved.close()
    database.close()


def _queues(settings: Settings) -> tuple[Queue, Queue]:
    pictures = Queue("pictures", "too-many-pictures", 1, settings.max_waiting_pictures, "DIGITLAB_MAX_WAITING_PICTURES")
    reads = Queue("large answers", "too-many-reads", 2, settings.max_waiting_reads, "DIGITLAB_MAX_WAITING_READS")
    return pictures, reads


def _operation_id(route: APIRoute) -> str:
    return route.name
