"""The endpoint of `/access`: what the key of a request allows."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.api_keys import KeyScope
from app.http.access import given_scopes
from app.http.dependencies import SettingsDep
from app.http.problem import problems

router = APIRouter(tags=["service"])


class Access(BaseModel):
    """What a request may do here, by the key that it carries."""

    needs_key: bool = Field(description="Whether the service asks for keys; if not, everything is allowed.")
    scope: KeyScope | None = Field(
        description="Of the key, the larger one of several; null without a key that the service knows."
    )
    may_read: bool = Field(description="Read, predict and ask for dry runs.")
    may_change: bool = Field(description="Submit, change and delete.")


@router.get("/access", summary="Show what one's key allows", responses=problems())
async def get_access(request: Request, settings: SettingsDep) -> Access:
    """Whether keys are needed, and what the key of this request allows. It needs none itself, and refuses none."""
    if not settings.keys:
        return Access(needs_key=False, scope=None, may_read=True, may_change=True)
    given = given_scopes(request.scope, settings.keys)
    scope = KeyScope.ADMIN if KeyScope.ADMIN in given else next(iter(given), None)
    return Access(needs_key=True, scope=scope, may_read=scope is not None, may_change=scope is KeyScope.ADMIN)
