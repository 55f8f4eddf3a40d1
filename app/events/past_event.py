"""An event as it is read, whether its row is its own or a block's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.tables import EventType


@dataclass(frozen=True, slots=True)
class PastEvent:
    id: int
    run_id: str
    sweep_id: str | None
    type: EventType
    data: dict[str, Any]
    created_at: datetime
