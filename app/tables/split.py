"""`splits`: which images belong to train, val and test; a worker writes a split at its first use."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Table, new_id


class Split(Table):
    __tablename__ = "splits"
    __table_args__ = (UniqueConstraint("dataset", "val_size", "test_size", "seed", "fold", "num_folds"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    dataset: Mapped[str] = mapped_column(ForeignKey("datasets.name"))
    val_size: Mapped[float]
    test_size: Mapped[float]
    seed: Mapped[int] = mapped_column(BigInteger)
    fold: Mapped[int] = mapped_column(default=0)  # number of the part of the train split that is val
    num_folds: Mapped[int] = mapped_column(default=1)  # 1: no folds, val is a part of its own
    train: Mapped[bytes] = mapped_column(LargeBinary)  # int32 indices into the dataset
    val: Mapped[bytes] = mapped_column(LargeBinary)
    test: Mapped[bytes] = mapped_column(LargeBinary)
