"""`/health/live` and `/health/ready`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app import __version__
from app.dependencies import DatabaseDep, SettingsDep
from app.health import service
from app.health.schemas import Liveness, ReadinessView
from app.predictions.endpoints import PredictorDep
from app.problem import problems

router = APIRouter(tags=["health"], prefix="/health")


@router.get("/live", summary="Is the process alive?", responses=problems())
async def get_liveness() -> Liveness:
    """Answers as soon as the API listens; looks at nothing else."""
    return Liveness(version=__version__)


@router.get(
    "/ready",
    summary="Can predictions be answered?",
    responses=problems()
    | {503: {"model": ReadinessView, "description": "`status` is `unavailable`; `causes` say why."}},
)
def get_readiness(
    request: Request, response: Response, database: DatabaseDep, settings: SettingsDep, predictor: PredictorDep
) -> ReadinessView:
    """200 when the database answers and a champion is loaded; `degraded` when no worker is there to train."""
    seen = service.look(
        database,
        settings,
        newest_revision=request.app.state.newest_revision,
        has_champion=predictor.has_champion,
        model_problem=predictor.problem,
    )
    if seen.failures:
        response.status_code = 503
    return ReadinessView(
        status=seen.status,
        causes=seen.failures + seen.warnings,
        champion_run_id=predictor.champion.run_id if predictor.has_champion else None,
        migration=seen.revision,
        num_workers=seen.num_workers,
        num_queued=seen.num_queued,
        free_disk_bytes=seen.free_disk_bytes,
    )
