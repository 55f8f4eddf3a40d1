"""Gives every request that reaches the application an id, security headers, a measurement and a line in the log.

`app.http.protocol` refuses other requests before that.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import instruments
from app.api_keys import KeyScope, required_scope
from app.http import problem
from app.http.headers import find_header
from app.logs import REQUEST_ID

logger = logging.getLogger("app.requests")

CLIENT_LEFT = 499  # nginx's status for a client that disconnected before the response
INTERNAL_ERROR = 500
MAX_LOGGED_PATH = 200
_GIVEN_ID = re.compile(rb"[A-Za-z0-9_.-]{1,128}")
_PROCESS = secrets.token_hex(6)  # begins the ids: a number after it is cheaper for each request than a UUID
_NUMBERS = itertools.count(1)

# A browser must not run, frame or sniff a response of the API (OWASP, REST Security Cheat Sheet).
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
# The documentation page runs its own scripts and sends requests to this service only. Its icons are `data:` URLs.
_DOCS_POLICY = (
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    b"connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'"
)
# The page's own scripts, styles and icon, and requests to this service: nothing inline, nothing from elsewhere.
_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _with_policy(policy: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, policy if name == b"content-security-policy" else value) for name, value in _HEADERS]


_DOCS_HEADERS, _PAGE_HEADERS = _with_policy(_DOCS_POLICY), _with_policy(_PAGE_POLICY)


class Observation:
    """The outermost middleware but CORS, which is outside so that responses to unexpected errors get its headers too.

    A client's own X-Request-ID is kept if it matches `_GIVEN_ID`.

    Args:
        app: The application, which handles the requests.
        logs_all: Whether to log every request, or only those that change something or fail.
    """

    def __init__(self, app: ASGIApp, *, logs_all: bool) -> None:
        self.app = app
        self._logs_all = logs_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        REQUEST_ID.set(request_id)  # for this task only: the server starts one for each request
        status = None

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = _security_headers(scope["path"])
                message["headers"] = [*message["headers"], *headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, observed_send)
        except ClientDisconnect:
            pass
        except Exception as error:
            logger.exception("Error in %s %s", scope["method"], _loggable_path(scope), exc_info=error)
            if status is None:
                await problem.unexpected(Request(scope))(scope, receive, observed_send)
        finally:
            self._note(scope, CLIENT_LEFT if status is None else status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, path = scope["method"], scope["path"]
        route = scope.get("route")
        instruments.observe_request(method, "unmatched" if route is None else route.path, status, seconds)
        if self._logs_all or status >= 400 or required_scope(method, path) is KeyScope.ADMIN:
            milliseconds = round(seconds * 1000, 2)
            fields = {"method": method, "path": _loggable_path(scope), "status": status, "milliseconds": milliseconds}
            # An expected refusal is no error: no model yet, a full queue. `problem` logs a failing database as one.
            level = logging.ERROR if status == INTERNAL_ERROR else logging.INFO
            is_refusal = status >= 400 and level is not logging.ERROR and not self._logs_all
            repeats = f"{method} {fields['path']} {status}" if is_refusal else None
            logger.log(level, "%s %s %d %.2f ms", *fields.values(), extra=fields | {"repeats": repeats})


def _security_headers(path: str) -> list[tuple[bytes, bytes]]:
    if path == "/docs":
        return _DOCS_HEADERS
    return _PAGE_HEADERS if path == "/" or path.startswith("/web/") else _HEADERS


def _loggable_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded: a decoded line break would start a new line in the log."""
    return str(scope["raw_path"][:MAX_LOGGED_PATH], "ascii", "backslashreplace")


def _request_id(scope: Scope) -> str:
    given = find_header(scope, b"x-request-id")
    return str(given, "ascii") if _GIVEN_ID.fullmatch(given) else f"{_PROCESS}-{next(_NUMBERS):x}"
