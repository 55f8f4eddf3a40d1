"""The dependency that tells endpoints which workers are alive."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.worker_registry.repository import WorkerWatch


async def _worker_watch(request: Request) -> WorkerWatch:
    watch: WorkerWatch = request.app.state.worker_watch
    return watch


WorkerWatchDep = Annotated[WorkerWatch, Depends(_worker_watch)]
