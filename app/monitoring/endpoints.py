"""The endpoint `/metrics`."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.request import parse_http_list

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.http.dependencies import DatabaseDep
from app.http.negotiation import TEXT, VARY, accepted
from app.http.problem import problems
from app.instruments import MULTIPROCESS_FOLDER
from app.monitoring.service import DatabaseGauges
from app.worker_registry.dependencies import WorkerWatchDep

router = APIRouter(tags=["health"])

OPENMETRICS = "application/openmetrics-text"


@router.get(
    "/metrics",
    summary="Read Prometheus metrics",
    responses=problems() | {200: {"content": {each: {"schema": {"type": "string"}} for each in (TEXT, OPENMETRICS)}}},
    response_class=Response,
)
def get_metrics(database: DatabaseDep, watch: WorkerWatchDep, request: Request) -> Response:
    """Requests, latency and predictions by digit, of all API processes; the queue, runs by state, epochs per second."""
    encode, media_type = _choose_encoder(request)
    registry = CollectorRegistry()
    registry.register(DatabaseGauges(database, watch))
    if MULTIPROCESS_FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    return Response(encode(registry), media_type=media_type, headers=VARY)


def _choose_encoder(request: Request) -> tuple[Callable[[Collector], bytes], str]:
    """Choose the encoder of the format that the scraper prefers; the library ignores qualities and takes the first."""
    wanted = accepted(request.scope, TEXT, OPENMETRICS)
    ranges = parse_http_list(",".join(request.headers.getlist("accept")).lower())
    try:
        return choose_encoder(",".join(each for each in ranges if each.startswith(wanted)))
    except (TypeError, ValueError):  # the version of the format is not valid
        return choose_encoder(wanted)
