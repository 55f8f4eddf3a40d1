"""`metrics`: one row per run and evaluated epoch."""

from __future__ import annotations

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Table


class Metric(Table):
    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    train_loss: Mapped[float]  # as seen during the epoch, dropout on
    train_accuracy: Mapped[float]
    train_eval_loss: Mapped[float]  # re-evaluated after the epoch, dropout off
    train_eval_accuracy: Mapped[float]
    val_loss: Mapped[float]
    val_accuracy: Mapped[float]
    gradient_norms: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))  # one for each layer
    weight_norms: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
    seconds: Mapped[float]  # training time of the run up to this epoch
