"""`promotions`: the champion's history; its newest row names the champion."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table, by_value


class PromotionReason(StrEnum):
    AUTOMATIC = "automatic"
    PINNED = "pinned"


class Promotion(Table):
    __tablename__ = "promotions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(String(36))  # no foreign key: the row stays when the run is deleted
    # What the history still tells when the run has been deleted; None for a run that was deleted before revision 0011.
    name: Mapped[str | None] = mapped_column(String(200))
    val_accuracy: Mapped[float | None]
    num_parameters: Mapped[int | None]
    reason: Mapped[PromotionReason] = mapped_column(by_value(PromotionReason))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
