"""`datasets`: the images and their labels, registered by a worker from scikit-learn."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table


class Dataset(Table):
    __tablename__ = "datasets"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    num_samples: Mapped[int]
    pixels: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)  # uint8, num_samples × 8 × 8, values 0–16
    labels: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)  # uint8, num_samples
    sha256: Mapped[str] = mapped_column(String(64))  # digest of the pixels followed by the labels
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
