"""The response model of `/access`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.api_keys import KeyScope


class Access(BaseModel):
    """What a request may do here, by the key that it carries."""

    needs_key: bool = Field(description="Whether the service asks for keys; if not, everything is allowed.")
    scope: KeyScope | None = Field(
        description="Of the key, the larger one of several; null without a key that the service knows."
    )
    may_read: bool = Field(description="Read, predict and ask for dry runs.")
    may_change: bool = Field(description="Submit, change and delete.")
