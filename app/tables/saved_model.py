"""`saved_models`: the model that a finished run is served from."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table


class SavedModel(Table):
    __tablename__ = "saved_models"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int]  # epoch of the weights
    onnx: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    num_parameters: Mapped[int]
    train_accuracy: Mapped[float]  # of these weights, dropout off
    val_accuracy: Mapped[float]
    val_loss: Mapped[float]
    on_canonical_split: Mapped[bool]  # whether the model may be champion
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
