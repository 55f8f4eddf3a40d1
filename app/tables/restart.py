"""`restarts`: how often `digitlab up` has restarted its API or worker since its own start."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import UtcDateTime, utc_now
from app.tables.base import Table


class Restart(Table):
    __tablename__ = "restarts"

    part: Mapped[str] = mapped_column(String(16), primary_key=True)  # `API` or `worker`
    count: Mapped[int]
    exit_code: Mapped[int]  # exit code of the process that ended last; -N: signal N ended it
    last_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
