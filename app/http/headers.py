"""Finding a header in an ASGI scope, as it was sent; on the way of every request, `Headers` would take its time."""

from __future__ import annotations

from starlette.types import Scope


def find_header(scope: Scope, name: bytes) -> bytes:
    """The value of a header, empty where there is none.

    Args:
        scope: Of an HTTP request.
        name: In lower case.
    """
    for each, value in scope["headers"]:
        if each == name:
            return bytes(value)
    return b""
