"""Queries over workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from app.clocks import MAX_SKEW_SECONDS, Monotonic, Sightings, SteadyClock
from app.database import database_now
from app.tables import Run, RunStatus, Worker
from app.worker_registry.availability import why_it_waits


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's report on itself; its trainer child finds out `device`, `devices` and `provenance`, None before."""

    name: str
    host: str
    pid: int
    device: str | None = None
    provenance: dict[str, Any] | None = None
    devices: list[str] | None = None  # devices whose runs the worker claims


_FOUND_OUT = ("device", "devices", "provenance")


def beat(session: Session, info: WorkerInfo) -> None:
    """Record a worker's heartbeat; the first one registers the worker."""
    values = {"heartbeat_at": database_now()} | {name: getattr(info, name) for name in _FOUND_OUT}
    beating = update(Worker).where(Worker.name == info.name).values(values).returning(Worker.name)
    if session.scalar(beating) is None:
        session.execute(insert(Worker).values(name=info.name, host=info.host, pid=info.pid, **values))


def unregister(session: Session, name: str) -> None:
    session.execute(delete(Worker).where(Worker.name == name))


class WorkerWatch:
    """Tells which workers are alive, as seen by one process, even if the clock that dates heartbeats jumps.

    A jump ahead counts only after it has lasted for `max_age_seconds`. A heartbeat in the future, which dates from
    before the clock was set back, counts until it has been seen unchanged for `max_age_seconds`.

    Args:
        max_age_seconds: Longest time between two heartbeats of a live worker, in seconds.
        monotonic: Monotonic clock, in seconds.
    """

    def __init__(self, max_age_seconds: float, monotonic: Monotonic = time.monotonic) -> None:
        self._max_age_seconds = max_age_seconds
        self._clock = SteadyClock(max_age_seconds, monotonic=monotonic)
        self._sightings = Sightings(monotonic)
        self._lock = Lock()  # concurrent requests call `list_alive`

    def list_alive(self, session: Session) -> list[tuple[Worker, float]]:
        """Return the live workers, each with the seconds since its last heartbeat."""
        workers = session.scalars(select(Worker).order_by(Worker.name)).all()
        wall = session.scalars(select(database_now())).one()
        with self._lock:
            now = self._clock.now(wall)
            ages = {worker.name: now - worker.heartbeat_at for worker in workers}
            for worker in workers:
                if worker.heartbeat_at > wall + MAX_SKEW_SECONDS:
                    ages[worker.name] = self._sightings.seconds_unchanged(worker.name, worker.heartbeat_at)
            self._sightings.keep_only(ages.keys())
        alive = [(worker, max(0.0, ages[worker.name])) for worker in workers]
        return [(worker, age) for worker, age in alive if age < self._max_age_seconds]

    def why_it_waits(self, session: Session, device: str) -> str | None:
        """See `availability.why_it_waits`."""
        return why_it_waits(device, [worker for worker, _ in self.list_alive(session)])


def delete_dead(session: Session, heard_before: float) -> None:
    """Delete the rows of workers that ended without unregistering and whose last heartbeat is before a moment."""
    session.execute(delete(Worker).where(Worker.heartbeat_at < heard_before))


def runs_in_training(session: Session) -> dict[str, list[str]]:
    """Return the ids of running runs by the name of the worker that trains them."""
    query = select(Run.worker, Run.id).where(Run.status == RunStatus.RUNNING).order_by(Run.id)
    trained: dict[str, list[str]] = {}
    for worker, run_id in session.execute(query):
        trained.setdefault(worker or "", []).append(run_id)
    return trained
