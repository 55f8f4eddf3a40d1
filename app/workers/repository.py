"""Queries over workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, select, update
from sqlalchemy.orm import Session

from app.database import database_now
from app.tables import Run, RunStatus, Worker


def register(session: Session, *, name: str, host: str, pid: int) -> None:
    """Announce a worker that has just started."""
    now = session.scalars(select(database_now())).one()
    session.merge(Worker(name=name, host=host, pid=pid, heartbeat_at=now))


def beat(session: Session, name: str, *, device: str | None, provenance: dict[str, Any] | None) -> None:
    """Say that a worker is alive, and what its trainer child found out about the machine."""
    values = {"heartbeat_at": database_now(), "device": device, "provenance": provenance}
    session.execute(update(Worker).where(Worker.name == name).values(values))


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
