"""API keys and what they allow. A key is never kept or logged, only its digest."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from app.caching import cache_short

_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE", "QUERY")  # as HTTP's method registry has them
_OPEN_PATHS = re.compile(
    r"/health/[^/]*|/openapi\.json|/docs(/(start\.js|swagger-ui-bundle\.js|swagger-ui\.css|favicon-32x32\.png))?"
)
# With a slash at its end, such a path is redirected to the one without.
_ASKS_A_MODEL = re.compile(r"(/predict|/v2/models/[^/]+(/versions/[^/]+)?/infer)/?")
_CAN_BE_DRY = re.compile(r"(/runs|/sweeps)/?")


class KeyScope(StrEnum):
    PREDICT = "predict"  # predicts and reads
    ADMIN = "admin"  # everything


@dataclass(frozen=True)
class ApiKey:
    """A key's digest and what it may do."""

    scope: KeyScope
    digest: bytes


def parse_keys(text: str) -> tuple[ApiKey, ...]:
    """Keys from a setting: `predict:KEY,admin:KEY`, each scope any number of times.

    Raises:
        ValueError: It is written otherwise; the message holds no key.
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
    """What a key must allow for a request; None: none is needed. What is not known to be harmless needs `admin`."""
    if _OPEN_PATHS.fullmatch(path):
        return None
    if method in _SAFE_METHODS or (method == "POST" and _ASKS_A_MODEL.fullmatch(path)):
        return KeyScope.PREDICT
    return KeyScope.ADMIN


def endpoint_decides(method: str, path: str) -> bool:
    """Whether the endpoint itself asks for `admin` (`app.http.dependencies.DryRun`), unless it is to change nothing.

    It alone knows how the query is read.
    """
    return method == "POST" and _CAN_BE_DRY.fullmatch(path) is not None


def allowed_scopes(keys: Iterable[ApiKey], sent: bytes) -> set[KeyScope]:
    """What the key that a client has sent allows: nothing, if it is none of these. Takes as long for any key."""
    digest = _digest(sent)
    return {key.scope for key in keys if hmac.compare_digest(key.digest, digest)}


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()
