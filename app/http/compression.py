"""Compresses large JSON responses to GET with gzip, for clients that accept it.

Starlette's `GZipMiddleware` compresses whatever is not excluded, also streams and responses to POST, takes `gzip;q=0`
for a wish, and keeps a strong ETag for bytes that are not the same.

Compression can reveal a secret that stands beside text of an attacker's choice (BREACH, CVE-2013-3587): no response
holds a key, keys come in a header that other sites' pages cannot send, and responses to POST stay as they are.
"""

from __future__ import annotations

import zlib

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.negotiation import JSON, accepts_gzip

MIN_BYTES = 4096  # smaller responses fit few packets
LEVEL = 5
MAX_BYTES_IN_LOOP = 32 * 2**10  # larger ones are compressed in a thread, beside other requests
_GZIP_FORMAT = zlib.MAX_WBITS | 16
_METHODS = ("GET", "HEAD")


class Compression:
    """Compresses a JSON response of at least `MIN_BYTES` that is sent in one piece.

    It belongs inside `HeadAsGet`, so that the headers of HEAD are those of GET, and inside `FastPath`, so that
    predictions do not pass through it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _METHODS:
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                start = message  # its headers depend on the body
                return
            if start is not None:
                begun, start = start, None
                if not message.get("more_body", False) and len(message.get("body", b"")) >= MIN_BYTES:
                    begun, message = await _compress(scope, begun, message)
                await send(begun)
            await send(message)

        await self.app(scope, receive, send_compressed)


def _is_json(start: Message) -> bool:
    headers = dict(start["headers"])
    return headers.get(b"content-type") == JSON.encode() and b"content-encoding" not in headers


async def _compress(scope: Scope, start: Message, body: Message) -> tuple[Message, Message]:
    """Return both messages of a response, compressed if the client accepts gzip; `Vary` says so to caches."""
    headers = MutableHeaders(raw=list(start["headers"]))
    headers.add_vary_header("Accept-Encoding")
    if accepts_gzip(scope):
        content: bytes = body["body"]
        if len(content) > MAX_BYTES_IN_LOOP:
            content = await run_in_threadpool(_gzip, content)
        else:
            content = _gzip(content)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(content))
        etag = headers.get("etag", "")
        if etag.startswith('"'):  # a strong one identifies bytes
            headers["ETag"] = f"W/{etag}"
        body = {**body, "body": content}
    return {**start, "headers": headers.raw}, body


def _gzip(content: bytes) -> bytes:
    return zlib.compress(content, LEVEL, _GZIP_FORMAT)
