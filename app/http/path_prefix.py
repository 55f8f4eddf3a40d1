"""Supports a proxy that strips a prefix from paths: only the URLs that clients receive contain the prefix.

FastAPI's own `root_path` would make the router strip the prefix once more, from paths that only seem to have it; the
checks of keys and origins would then see another path than the router.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PathPrefix:
    """Writes the prefix into `Location`. The documentation page's URLs are relative and so have it by themselves.

    Args:
        app: The application, which handles the requests.
        prefix: Path without a slash at its end, as in `/digitlab`.
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
        """Return the prefixed path and query, without the host: a redirect names the host that the proxy requested."""
        target = urlsplit(location.decode("latin-1"))
        query = f"?{target.query}" if target.query else ""
        return f"{self._prefix}{target.path}{query}".encode("latin-1")
