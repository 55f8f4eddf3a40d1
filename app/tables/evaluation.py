"""`evaluations`: a saved model's probabilities on a split, the source of mistakes and confusion matrices."""

from __future__ import annotations

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Table


class Evaluation(Table):
    __tablename__ = "evaluations"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    split: Mapped[str] = mapped_column(String(8), primary_key=True)  # `val` or `test`
    probabilities: Mapped[bytes] = mapped_column(LargeBinary)  # float32, samples of the split × 10
    sha256: Mapped[str] = mapped_column(String(64))
