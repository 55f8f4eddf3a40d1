"""Response models for events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.events.past_event import PastEvent
from app.tables import EventType


class EventView(BaseModel):
    """Something that has happened."""

    id: int = Field(description="Grows in the order in which events were committed; send it as `after`.")
    run_id: str | None = Field(
        description="null: an event of a sweep.", examples=["01a20e0d-2749-744b-97b3-2c4e726a71a1"]
    )
    sweep_id: str | None = Field(description="The run's sweep, or the sweep itself.")
    type: EventType
    data: dict[str, Any] = Field(description="What belongs to this type.", examples=[{"status": "queued", "epoch": 0}])
    created_at: datetime

    @classmethod
    def of(cls, event: PastEvent) -> EventView:
        return cls.model_validate(event, from_attributes=True)


class LatestEvent(BaseModel):
    """The end of the list of all events."""

    id: int = Field(description="The newest event's id; 0 if there has never been one. Send it as `after`.")
