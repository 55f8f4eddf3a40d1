"""An event as it is read, from a row of its own or from the row of a block."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.tables import EventType


@dataclass(frozen=True, slots=True)
class PastEvent:
    id: int
    run_id: str | None  # None: an event of a sweep
    sweep_id: str | None
    type: EventType
    data: dict[str, Any]
    created_at: datetime
