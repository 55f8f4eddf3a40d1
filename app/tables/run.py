"""`runs`: one training of one model. The row is also the queue entry, so the two can never disagree."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table, by_value, new_id


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def is_finished(self) -> bool:
        return self in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


class Run(Table):
    __tablename__ = "runs"
    __table_args__ = (
        Index("ix_runs_queue", "status", "priority", "id"),
        Index("ix_runs_stack", "stack_key", "status", "epoch"),
        Index("ix_runs_sweep", "sweep_id", "trial_number"),
        Index("ix_runs_idempotency_key", "idempotency_key", unique=True),
        Index("ix_runs_deleted_at", "deleted_at"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200), default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    sweep_id: Mapped[str | None] = mapped_column(String(36))
    trial_number: Mapped[int | None]  # from 0
    point_number: Mapped[int | None]  # number of the sweep's point, from 0
    fold: Mapped[int | None]  # number of the cross-validation fold, from 0

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    submission_sha256: Mapped[str | None] = mapped_column(String(64))  # digest of the body that came with the key

    # What is trained
    model_kind: Mapped[str] = mapped_column(String(32))
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    config_version: Mapped[int] = mapped_column(default=1)
    device: Mapped[str] = mapped_column(String(16))  # as requested; `provenance` names the device that was used
    seed: Mapped[int] = mapped_column(BigInteger)
    epochs: Mapped[int]
    num_parameters: Mapped[int | None]

    # The queue
    status: Mapped[RunStatus] = mapped_column(by_value(RunStatus), default=RunStatus.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)
    claim_number: Mapped[int] = mapped_column(default=0)  # the fencing token: only grows, by 1 with each claim
    crashes_without_progress: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str | None] = mapped_column(String(200), index=True)
    lease_expires_at: Mapped[float | None]  # seconds since 1970 by the database's clock
    lease_seconds: Mapped[float | None]  # the lease's length: if it ends further ahead, the clock was set back
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    pause_requested: Mapped[bool] = mapped_column(default=False)
    stack_key: Mapped[str | None] = mapped_column(String(200))  # None: the run trains alone
    stack_id: Mapped[str | None] = mapped_column(String(36))
    stack_size: Mapped[int | None]

    # Progress and results
    epoch: Mapped[int] = mapped_column(default=0)
    epochs_per_second: Mapped[float | None]
    training_seconds: Mapped[float] = mapped_column(default=0.0)
    best_epoch: Mapped[int | None]
    best_val_accuracy: Mapped[float | None]
    best_val_loss: Mapped[float | None]
    test_accuracy: Mapped[float | None]
    shifted_accuracy: Mapped[float | None]  # the saved model's, for lists of runs
    shifted_standard_error: Mapped[float | None]
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # the mark of `app.tables.deletion`
