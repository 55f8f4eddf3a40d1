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
    # On shifted val (10 warped copies of each val image); null: not evaluated yet, or trained on a fold
    shifted_accuracy: Mapped[float | None]
    shifted_loss: Mapped[float | None]
    shifted_standard_error: Mapped[float | None]  # of the accuracy, clustered by val image
    shifted_right: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # a bit a copy, image by image
    # Thresholds of verdicts, fixed by val and shifted val (`workers/training/thresholds.py`)
    sure_confidence: Mapped[float | None]  # a smaller one is not sure; null: none is
    max_energy: Mapped[float | None]  # beyond it, an image is no digit; null: energy does not tell
    max_distance: Mapped[float | None]  # the same for the distance to the nearest train image
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
