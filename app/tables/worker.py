"""`workers`: the workers that are alive. `runs.worker` names the worker that trains a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table


class Worker(Table):
    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    device: Mapped[str | None] = mapped_column(String(16))  # null until the worker's trainer process is ready
    devices: Mapped[list[str] | None] = mapped_column(
        JSON(none_as_null=True)
    )  # devices for which it claims runs; null as above
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    heartbeat_at: Mapped[float]  # seconds since 1970 by the database's clock
