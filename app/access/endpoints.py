"""The endpoint of `/access`."""

from __future__ import annotations

from fastapi import APIRouter, Request

from app.access.schemas import Access
from app.api_keys import KeyScope
from app.http.access import given_scopes
from app.http.dependencies import SettingsDep
from app.http.problem import problems

router = APIRouter(tags=["service"])


@router.get("/access", summary="Show what one's key allows", responses=problems())
async def get_access(request: Request, settings: SettingsDep) -> Access:
    """Whether keys are needed, and what the key of this request allows. It needs none itself, and refuses none."""
    if not settings.keys:
        return Access(needs_key=False, scope=None, may_read=True, may_change=True)
    given = given_scopes(request.scope, settings.keys)
    scope = KeyScope.ADMIN if KeyScope.ADMIN in given else next(iter(given), None)
    return Access(needs_key=True, scope=scope, may_read=scope is not None, may_change=scope is KeyScope.ADMIN)
