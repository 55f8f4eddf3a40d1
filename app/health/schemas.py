"""Response models for health."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"
    version: str


class ReadinessView(BaseModel):
    """`/predict` can answer; and what is the matter besides."""

    status: Literal["ready", "degraded"]
    causes: list[str] = Field(description="Why the service is degraded.")
    champion_run_id: str | None
    migration: str | None
    num_workers: int | None
    restarts: dict[str, int] = Field(description="How often `digitlab up` has started its `API` or `worker` again.")
    num_queued: int | None
    free_disk_bytes: int | None = Field(description="Where the SQLite file lies; null on Postgres.")
