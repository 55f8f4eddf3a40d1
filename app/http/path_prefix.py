"""A proxy that strips a prefix from paths: what clients are told to ask for has it, and nothing else knows of it.

FastAPI's own `root_path` would have the router strip it once more, from paths that only look as if they had it; the
checks of keys and origins would then see another path than the router.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PathPrefix:
    """Writes the prefix into `Location`. The documentation page's addresses are relative, and carry it by themselves.

    Args:
        app: What answers.
        prefix: As in `/digitlab`, without a slash at its end.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_prefix(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, self._add(value) if name == b"location" else value) for name, value in message["headers"]
                ]
            await send(message)

        await self.app(scope, receive, send_with_prefix)

    def _add(self, location: bytes) -> bytes:
        """Redirects name the host that the proxy asked for: the path alone stays right."""
        target = urlsplit(location.decode("latin-1"))
        query = f"?{target.query}" if target.query else ""
        return f"{self._prefix}{target.path}{query}".encode("latin-1")
