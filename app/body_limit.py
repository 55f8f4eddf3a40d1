"""Refuses bodies that are too large, by their Content-Length or while they are read.

FastAPI's own `max_body_size` answers in plain text, whatever the application's handlers would say.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.headers import find_header


class BodyLimit:
    """Raises a 413 inside the application as soon as a body is known to exceed the limit; belongs innermost."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = find_header(scope, b"content-length")
        is_too_large = announced.isdigit() and int(announced) > self._max_body_bytes
        num_bytes = 0

        async def receive_within_limit() -> Message:
            nonlocal num_bytes
            if is_too_large:
                raise HTTPException(413)
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_body_bytes:
                raise HTTPException(413)
            return message

        await self.app(scope, receive_within_limit, send)
