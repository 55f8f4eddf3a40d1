"""`ranking`: by what saved models are ranked, in one row. The best one is champion, unless one is pinned."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.orm import Mapped, mapped_column

from app.tables.base import Table, by_value


class RankedBy(StrEnum):
    SHIFTED = "shifted"  # shifted accuracy, shifted loss, val accuracy, val loss, fewest parameters, oldest
    VAL = "val"  # val accuracy, val loss, fewest parameters, oldest


class Ranking(Table):
    __tablename__ = "ranking"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ranked_by: Mapped[RankedBy] = mapped_column(by_value(RankedBy), default=RankedBy.SHIFTED)
