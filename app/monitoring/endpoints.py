"""`/metrics`."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import APIRouter, Header, Response
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from app.dependencies import DatabaseDep
from app.instruments import MULTIPROCESS_FOLDER
from app.monitoring.service import DatabaseGauges
from app.problem import problems
from app.workers.dependencies import WorkerWatchDep

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Read Prometheus metrics",
    responses=problems() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_class=Response,
)
def get_metrics(
    database: DatabaseDep, watch: WorkerWatchDep, accept: Annotated[str, Header(max_length=1000)] = ""
) -> Response:
    """Requests, latency and predictions by digit, of all API processes; the queue, runs by state, epochs per second."""
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(DatabaseGauges(database, watch))
    if MULTIPROCESS_FOLDER in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    return Response(encode(registry), media_type=media_type)
