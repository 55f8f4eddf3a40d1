"""Endpoints of `/workers`."""

from __future__ import annotations

from fastapi import APIRouter

from app.http.dependencies import ReadSession
from app.http.problem import problems
from app.paging import Page
from app.worker_registry import repository
from app.worker_registry.dependencies import WorkerWatchDep
from app.worker_registry.schemas import WorkerView

router = APIRouter(tags=["workers"])


@router.get("/workers", summary="List workers", responses=problems())
def list_workers(session: ReadSession, watch: WorkerWatchDep) -> Page[WorkerView]:
    """Who is alive, on which device, and what it trains."""
    trained = repository.runs_in_training(session)
    alive = watch.list_alive(session)
    return Page(data=[WorkerView.of(worker, age, trained.get(worker.name, [])) for worker, age in alive])
