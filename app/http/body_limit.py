"""Rejects bodies that are too large, by their Content-Length or while they are read, alone or all together.

FastAPI's own `max_body_size` responds in plain text, whatever the application's error handlers are.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.headers import find_header


class BodyLimit:
    """Raises a 413 or 503 inside the application as soon as a limit is known to be exceeded.

    `FastPath` and `HeadAsGet` stand inside it, so that it limits every reader of a body.

    Args:
        app: The application, which reads the bodies.
        max_body_bytes: Largest single body, in bytes.
        max_buffered_bytes: Largest sum of the bodies of all requests in progress, in bytes.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_buffered_bytes: int) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = find_header(scope, b"content-length")
        is_too_large = announced.isdigit() and int(announced) > self._max_body_bytes
        num_bytes = 0

        async def receive_within_limits() -> Message:
            nonlocal num_bytes
            if is_too_large:
                raise HTTPException(413)
            message = await receive()
            part = len(message.get("body", b""))
            num_bytes += part
            self._buffered_bytes += part
            if num_bytes > self._max_body_bytes:
                raise HTTPException(413)
            if self._buffered_bytes > self._max_buffered_bytes:
                raise HTTPException(503, headers={"Retry-After": "1"})
            return message

        try:
            await self.app(scope, receive_within_limits, send)
        finally:
            self._buffered_bytes -= num_bytes
