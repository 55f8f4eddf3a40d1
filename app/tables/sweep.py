"""`sweeps`: searches over configurations. A sweep's state derives from its trials, which are runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table, new_id


class Sweep(Table):
    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_idempotency_key", "idempotency_key", unique=True),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200), default="")
    notes: Mapped[str] = mapped_column(Text, default="")
    tags: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    priority: Mapped[int] = mapped_column(default=0)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    submission_sha256: Mapped[str | None] = mapped_column(String(64))  # digest of the body that came with the key

    # What is searched
    base: Mapped[dict[str, Any]] = mapped_column(JSON)  # a complete run configuration
    search: Mapped[dict[str, Any]] = mapped_column(JSON)
    parameters: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    points: Mapped[list[dict[str, Any]]] = mapped_column(JSON)  # values by dotted path, in order of point number
    repeats: Mapped[int] = mapped_column(default=1)
    num_folds: Mapped[int | None]  # folds of cross-validation
    stopping: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    num_trials: Mapped[int]

    # Progress and results
    is_cancelled: Mapped[bool] = mapped_column(default=False)
    choice: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # what cross-validation chose
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # the mark of `app.tables.deletion`
