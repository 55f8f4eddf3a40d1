"""Finds a header in an ASGI scope, as it was sent. Every request does this, and Starlette's `Headers` is slower."""

from __future__ import annotations

from starlette.types import Scope


def find_header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a header; empty if there is none.

    Args:
        scope: ASGI scope of an HTTP request.
        name: Name of the header, in lower case.
    """
    for each, value in scope["headers"]:
        if each == name:
            return bytes(value)
    return b""
