"""Access control: a request passes only if its key allows it. The keys themselves are in `app.api_keys`."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api_keys import ApiKey, KeyScope, allowed_scopes, endpoint_decides, required_scope
from app.http import problem
from app.http.headers import find_header

_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_READS_ONLY = "digitlab.reads_only"


FORBIDDEN = "This key can predict and read; what changes something needs an admin key."


def reads_only(scope: Scope) -> bool:
    """Whether a request's key allows no change; endpoints use this where `endpoint_decides`."""
    return _READS_ONLY in scope


class KeyCheck:
    """Rejects requests that their key does not allow. A middleware further out responds to CORS preflights."""

    def __init__(self, app: ASGIApp, keys: Iterable[ApiKey]) -> None:
        self.app = app
        self._keys = tuple(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        needed = required_scope(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if needed is None:
            await self.app(scope, receive, send)
            return
        given = given_scopes(scope, self._keys)
        if not given:
            detail = "This needs a key: send it as 'Authorization: Bearer KEY'."
            refusal = problem.render(Request(scope), 401, "unauthorized", detail, headers=_CHALLENGE)
        elif needed is KeyScope.ADMIN and KeyScope.ADMIN not in given:
            if endpoint_decides(scope["method"], scope["path"]):
                scope[_READS_ONLY] = True
                await self.app(scope, receive, send)
                return
            refusal = problem.render(Request(scope), 403, "forbidden", FORBIDDEN)
        else:
            await self.app(scope, receive, send)
            return
        await refusal(scope, receive, send)


def given_scopes(scope: Scope, keys: Iterable[ApiKey]) -> set[KeyScope]:
    """Return the scopes of the key that a request carries; none without a key or with an unknown one."""
    return allowed_scopes(keys, _sent_key(scope))


def _sent_key(scope: Scope) -> bytes:
    scheme, _, key = find_header(scope, b"authorization").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""
