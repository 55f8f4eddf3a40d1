"""Which web pages may use the service: a browser sends requests to it for any page that its user has open.

A page of another site may send simple requests without a preflight, and may even read the responses by DNS rebinding
(a name of its own that resolves to this machine). See the OWASP Cross-Site Request Forgery Prevention Cheat Sheet
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

ANY = "*"
_OF_ITS_OWN = (b"same-origin", b"none")  # the page is the service's own; the user typed the address
_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginCheck:
    """Rejects requests to a host name that is not this service's, and changes requested by another site's page.

    Args:
        app: The application, which handles the requests.
        allowed_hosts: Host names beside `localhost` and any IP address; `*`: every name; None: no check.
        allowed_origins: Origins of other sites whose pages may change something; `*`: all.
    """

    def __init__(self, app: ASGIApp, *, allowed_hosts: Iterable[str] | None, allowed_origins: Iterable[str]) -> None:
        self.app = app
        names = None if allowed_hosts is None else [name.lower().removesuffix(".") for name in allowed_hosts]
        self._names = None if names is None else frozenset(names)
        self._origins = frozenset(origin.encode("latin-1", "replace") for origin in allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (why := self._why_refused(scope)) is not None:
            await problem.render(Request(scope), *why)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _why_refused(self, scope: Scope) -> tuple[int, str, str] | None:
        """Return status, slug and detail of the problem; None: the request may pass."""
        host = origin = site = b""
        for name, value in reversed(scope["headers"]):  # reversed: the first of several counts
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
        if not self._is_mine(host, scope["path"]):
            detail = (
                f"This service does not go by the name {host.decode('latin-1')!r}. "
                "DIGITLAB_ALLOWED_HOSTS holds the names that it answers to."
            )
            return 421, "unknown-host", detail
        if not origin and not site:  # not sent by a browser
            return None
        if required_scope(scope["method"], scope["path"]) is KeyScope.ADMIN and not self._may_change(
            host, origin, site
        ):
            detail = (
                "A page of another site asks for a change. DIGITLAB_CORS_ORIGINS holds the origins of those that may."
            )
            return 403, "cross-site", detail
        return None

    def _is_mine(self, host: bytes, path: str) -> bool:
        if self._names is None or not host or _is_local(host):  # HTTP/1.0 may omit Host, browsers do not
            return True
        return path.startswith("/health/") or ANY in self._names or _name(host) in self._names

    def _may_change(self, host: bytes, origin: bytes, site: bytes) -> bool:
        if origin in self._origins or ANY.encode() in self._origins:
            return True
        if site:
            return site in _OF_ITS_OWN
        return not origin or _is_same(origin, host)


@cache_short
def _name(host: bytes) -> str:
    """Return the name or address in a Host header, in lower case; empty if there is none."""
    try:
        parts = urlsplit(f"//{host.decode('latin-1')}")
    except ValueError:
        return ""
    return "" if "@" in parts.netloc else (parts.hostname or "").removesuffix(".")


@cache_short
def _is_local(host: bytes) -> bool:
    """Whether Host is `localhost` or an IP address; DNS rebinding needs a name of another site, which is neither."""
    name = _name(host)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: bytes, host: bytes) -> bool:
    """Whether an origin is the host of a Host header; its scheme is not compared, as a proxy may have ended TLS."""
    try:
        page = urlsplit(origin.decode("latin-1"))
        own = urlsplit(f"{page.scheme}://{host.decode('latin-1')}")
        default = _DEFAULT_PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False
