"""API keys and what they allow. The service keeps only a key's digest, and never logs a key."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from app.caching import cache_short

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY")  # the safe ones of HTTP's method registry
# The page asks for the key itself, so it needs none.
_OPEN_PATHS = re.compile(
    r"/|/web/.*|/access|/health/[^/]*|/openapi\.json|"
    r"/docs(/(start\.js|swagger-ui-bundle\.js|swagger-ui\.css|favicon-32x32\.png))?"
)
# The slash at the end is optional: such a path is redirected to the one without it.
_ASKS_A_MODEL = re.compile(r"(/predict|/digitize|/v2/models/[^/]+(/versions/[^/]+)?/infer)/?")
_CAN_BE_DRY = re.compile(r"(/runs|/sweeps)/?")


class KeyScope(StrEnum):
    PREDICT = "predict"  # may predict and read
    ADMIN = "admin"  # may do everything


@dataclass(frozen=True)
class ApiKey:
    """A key's digest and its scope."""

    scope: KeyScope
    digest: bytes


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Parse the setting `predict:KEY,admin:KEY`; each scope may occur any number of times.

    Raises:
        ValueError: The text has another form; the message contains no key.
    """
    keys = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        scope, _, key = entry.partition(":")
        if scope not in set(KeyScope) or not re.fullmatch(r"[\x21-\x7e]+", key):
            raise ValueError(
                "write scope:KEY, separated by commas: the scope is predict or admin, the key printable ASCII"
            )
        keys.append(ApiKey(KeyScope(scope), _digest(key.encode())))
    return tuple(keys)


@cache_short
def required_scope(method: str, path: str) -> KeyScope | None:
    """Return the scope that a request needs; None: no key. A request that is not known to be harmless needs `admin`."""
    if _OPEN_PATHS.fullmatch(path):
        return None
    if method in _SAFE_METHODS or (method == "POST" and _ASKS_A_MODEL.fullmatch(path)):
        return KeyScope.PREDICT
    return KeyScope.ADMIN


def endpoint_decides(method: str, path: str) -> bool:
    """Whether the endpoint itself requires `admin` (`app.http.dependencies.DryRun`), except for a dry run.

    Only the endpoint knows how its query is parsed.
    """
    return method == "POST" and _CAN_BE_DRY.fullmatch(path) is not None


def allowed_scopes(keys: Iterable[ApiKey], sent: bytes) -> set[KeyScope]:
    """Return the scopes of the key that a client sent; an unknown key has none. The time does not depend on the key."""
    digest = _digest(sent)
    return {key.scope for key in keys if hmac.compare_digest(key.digest, digest)}


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
