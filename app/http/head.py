"""HEAD for every GET route (RFC 9110, 9.3.2): the same status and headers, and no content."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MARK = "digitlab.head"


class _Answered(Exception):
    """The headers have been sent, and the body is not to follow."""


class HeadAsGet:
    """Calls the GET route for a HEAD request and stops it after the headers: a stream would never end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body"})
                raise _Answered

        asked = {**scope, "method": "GET", _MARK: True}
        try:
            await self.app(asked, receive, send_headers)
        except* _Answered:
            pass
        finally:
            scope["route"] = asked.get("route")  # `Observation` reads it


def is_head(request: Request) -> bool:
    """Whether only the headers of the response will be sent."""
    return _MARK in request.scope
