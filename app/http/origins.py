"""Which web pages may use the service: a browser sends requests to it for any page that its user has open.

A page of another site may send simple requests without asking first, and by DNS rebinding (a name of its own that
resolves to this machine) may even read the answers. See the OWASP Cross-Site Request Forgery Prevention Cheat Sheet
("Fetch Metadata headers").
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api_keys import KeyScope, required_scope
from app.caching import cache_short
from app.http import problem
from app.http.headers import find_header

ANY = "*"
_OF_ITS_OWN = (b"same-origin", b"none")  # a page of the service itself; an address that the user typed
_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginCheck:
    """Refuses requests to a name that is not this service's, and changes that another site's page asks for.

    Args:
        app: What answers.
        allowed_hosts: Names beside `localhost` and any IP address; `*`: every name. None: names are not checked.
        allowed_origins: Of other sites whose pages may change something; `*`: all.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str] | None, allowed_origins: Iterable[str]) -> None:
        self.app = app
        names = None if allowed_hosts is None else [name.lower().removesuffix(".") for name in allowed_hosts]
        self._names = None if names is None else frozenset(names)
        self._origins = frozenset(origin.encode("latin-1", "replace") for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = find_header(scope, b"host")
            if not self._is_mine(host, scope["path"]):
                detail = (
                    f"This service does not go by the name {host.decode('latin-1')!r}. "
                    "DIGITLAB_ALLOWED_HOSTS holds the names that it answers to."
                )
                await problem.render(Request(scope), 421, "unknown-host", detail)(scope, receive, send)
                return
            if required_scope(scope["method"], scope["path"]) is KeyScope.ADMIN and not self._may_change(scope, host):
                detail = (
                    "A page of another site asks for a change. "
                    "DIGITLAB_CORS_ORIGINS holds the origins of those that may."
                )
                await problem.render(Request(scope), 403, "cross-site", detail)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_mine(self, host: bytes, path: str) -> bool:
        if self._names is None or path.startswith("/health/") or not host:  # HTTP/1.0 may leave it out, browsers do not
            return True
        return ANY in self._names or _is_local(host) or _name(host) in self._names

    def _may_change(self, scope: Scope, host: bytes) -> bool:
        origin = find_header(scope, b"origin")
        if origin in self._origins or ANY.encode() in self._origins:
            return True
        site = find_header(scope, b"sec-fetch-site")
        if site:
            return site in _OF_ITS_OWN
        return not origin or _is_same(origin, host)


@cache_short
def _name(host: bytes) -> str:
    """The name or address in a Host header, in lower case; empty where there is none."""
    try:
        parts = urlsplit(f"//{host.decode('latin-1')}")
    except ValueError:
        return ""
    return "" if "@" in parts.netloc else (parts.hostname or "").removesuffix(".")


@cache_short
def _is_local(host: bytes) -> bool:
    """Whether it is `localhost` or an address: no other site's name can resolve to this machine and be one of these."""
    name = _name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: bytes, host: bytes) -> bool:
    """Whether an origin is what a Host header names; a proxy may have taken TLS away."""
    try:
        page = urlsplit(origin.decode("latin-1"))
        own = urlsplit(f"{page.scheme}://{host.decode('latin-1')}")
        default = _DEFAULT_PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False
