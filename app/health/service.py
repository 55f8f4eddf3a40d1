"""Checks whether the service is ready: its database, champion, workers, restarts and disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import NEWEST_REVISION, Database, current_revision, explain_failure, utc_now
from app.tables import Restart, Run, RunStatus
from app.worker_registry.availability import NO_WORKER, why_it_waits
from app.worker_registry.repository import WorkerWatch

MIN_FREE_DISK_BYTES = 200 * 2**20
RECENTLY = timedelta(minutes=1)


@dataclass
class ServiceState:
    """The result of a check. `failures` make the service not ready, `warnings` only degrade it."""

    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    revision: str | None = None
    num_workers: int | None = None
    num_queued: int | None = None
    free_disk_bytes: int | None = None
    restarts: dict[str, int] = field(default_factory=dict)


def check_readiness(
    database: Database,
    watch: WorkerWatch,
    *,
    has_champion: bool,
    model_problems: Sequence[str],
) -> ServiceState:
    """Check everything that predicting depends on."""
    seen = ServiceState()
    _look_at_database(seen, database, watch)
    if not has_champion:
        seen.failures.append("There is no saved model yet.")
    seen.warnings += model_problems
    if database.url.get_backend_name() == "sqlite" and database.url.database:
        _look_at_disk(seen, Path(database.url.database).parent)
    return seen


def _look_at_disk(seen: ServiceState, folder: Path) -> None:
    try:
        seen.free_disk_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        seen.failures.append(f"The folder of the database cannot be looked at: {error.strerror}.")
        return
    if seen.free_disk_bytes < MIN_FREE_DISK_BYTES:
        seen.warnings.append("The disk of the database is nearly full.")


def _look_at_restarts(seen: ServiceState, session: Session) -> None:
    for restart in session.scalars(select(Restart).order_by(Restart.part)):
        seen.restarts[restart.part] = restart.count
        if abs(utc_now() - restart.last_at) < RECENTLY:
            seen.warnings.append(
                f"The {restart.part} has just ended (exit code {restart.exit_code}) and been started again; "
                f"number of restarts: {restart.count}."
            )


def _look_at_database(seen: ServiceState, database: Database, watch: WorkerWatch) -> None:
    try:
        with database.reading() as session:
            seen.revision = current_revision(session)
            if seen.revision != NEWEST_REVISION:
                seen.failures.append(
                    f"The database is at migration {seen.revision}, this version needs {NEWEST_REVISION}: "
                    "run digitlab migrate."
                )
                return
            alive = watch.list_alive(session)
            seen.num_workers = len(alive)
            _look_at_restarts(seen, session)
            by_device = (
                select(Run.device, func.count().label("number"))
                .where(Run.status == RunStatus.QUEUED)
                .group_by(Run.device)
            )
            queued = {row.device: row.number for row in session.execute(by_device.order_by(Run.device))}
            seen.num_queued = sum(queued.values())
            workers = [worker for worker, _ in alive]
            whys = {why_it_waits(device, workers): number for device, number in queued.items()}
            whys.pop(None, None)
    except SQLAlchemyError as error:
        seen.failures.append(explain_failure(error))
        return
    if seen.num_workers == 0:
        seen.warnings.append(NO_WORKER)
    seen.warnings += [f"{why} Queued such runs: {number}." for why, number in whys.items() if why != NO_WORKER]
