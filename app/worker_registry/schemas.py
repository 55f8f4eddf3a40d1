"""Response models for workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.tables import Worker


class WorkerView(BaseModel):
    """A worker process that is alive."""

    name: str
    host: str
    pid: int
    device: str | None = Field(description="Where it trains runs with `device: auto`; null while it is starting.")
    provenance: dict[str, Any] | None = Field(description="Versions and hardware; null while it is starting.")
    started_at: datetime
    seconds_since_heartbeat: float
    run_ids: list[str] = Field(description="What it trains now.")

    @classmethod
    def of(cls, worker: Worker, age: float, run_ids: list[str]) -> WorkerView:
        same_name = [name for name in cls.model_fields if name not in ("seconds_since_heartbeat", "run_ids")]
        return cls(**{name: getattr(worker, name) for name in same_name}, seconds_since_heartbeat=age, run_ids=run_ids)
