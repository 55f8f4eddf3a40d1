"""Endpoints `/health/live` and `/health/ready`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request

from app import __version__
from app.errors import Unavailable
from app.health import service
from app.health.schemas import Liveness, ReadinessView
from app.http.problem import problems
from app.predictions.inference import PredictorDep, lanes_of, look_for_champion
from app.worker_registry.dependencies import WorkerWatchDep

router = APIRouter(tags=["health"], prefix="/health")


@router.get("/live", summary="Is the process alive?", responses=problems())
async def get_liveness() -> Liveness:
    """Answers as soon as the API listens; looks at nothing else."""
    return Liveness(version=__version__)


@router.get(
    "/ready",
    summary="Can predictions be answered?",
    responses=problems(),
)
async def get_readiness(request: Request, watch: WorkerWatchDep, predictor: PredictorDep) -> ReadinessView:
    """200 when the database answers and a champion is loaded: `degraded` when, say, no worker is there to train.

    503 otherwise, with the causes in `detail`.
    """
    await look_for_champion(request)
    check = partial(service.check_readiness, has_champion=predictor.has_champion, model_problems=predictor.problems)
    # The check has a thread and a connection of its own, which other requests cannot occupy.
    seen = await lanes_of(request).readiness.run(check, request.app.state.reserved_database, watch)
    if seen.failures:
        causes = " ".join(seen.failures + seen.warnings)
        raise Unavailable(causes, slug="not-ready", headers={"Retry-After": "2"})
    return ReadinessView(
        status="degraded" if seen.warnings else "ready",
        causes=seen.warnings,
        champion_run_id=predictor.champion.run_id if predictor.has_champion else None,
        migration=seen.revision,
        num_workers=seen.num_workers,
        num_queued=seen.num_queued,
        restarts=seen.restarts,
        free_disk_bytes=seen.free_disk_bytes,
    )
