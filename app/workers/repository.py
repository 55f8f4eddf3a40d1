"""Queries over workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.orm import Session

from app.database import database_now
from app.tables import Run, RunStatus, Worker


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker says of itself; `device` and `provenance` are what its trainer child found out, None before."""

    name: str
    host: str
    pid: int
    device: str | None = None
    provenance: dict[str, Any] | None = None


def beat(session: Session, info: WorkerInfo) -> None:
    """Say that a worker is alive, for the first time or again."""
    values = {"heartbeat_at": database_now(), "device": info.device, "provenance": info.provenance}
    beating = update(Worker).where(Worker.name == info.name).values(values).returning(Worker.name)
    if session.scalar(beating) is None:
        session.execute(insert(Worker).values(name=info.name, host=info.host, pid=info.pid, **values))


def unregister(session: Session, name: str) -> None:
    session.execute(delete(Worker).where(Worker.name == name))


def list_alive(session: Session, max_age_seconds: float) -> Sequence[Row[Worker, float]]:
    """Workers heard of lately, each with the seconds since."""
    age = (database_now() - Worker.heartbeat_at).label("age")
    query = select(Worker, age).where(Worker.heartbeat_at > database_now() - max_age_seconds)
    return session.execute(query.order_by(Worker.name)).all()


def forget_dead(session: Session, max_age_seconds: float) -> None:
    """Remove the rows of workers that ended without a word."""
    session.execute(delete(Worker).where(Worker.heartbeat_at < database_now() - max_age_seconds))


def runs_in_training(session: Session) -> dict[str, list[str]]:
    """The ids of running runs by the worker that trains them."""
    query = select(Run.worker, Run.id).where(Run.status == RunStatus.RUNNING).order_by(Run.id)
    trained: dict[str, list[str]] = {}
    for worker, run_id in session.execute(query):
        trained.setdefault(worker or "", []).append(run_id)
    return trained
