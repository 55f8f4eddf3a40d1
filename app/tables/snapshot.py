"""`snapshots`: a network's weights and its predictions on val at some epochs of its training."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Table


class Snapshot(Table):
    __tablename__ = "snapshots"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    blob: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)  # safetensors: `app.results.snapshots` reads it
    sha256: Mapped[str] = mapped_column(String(64))
