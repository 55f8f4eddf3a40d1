"""Content negotiation by the headers `Accept` and `Accept-Encoding` (RFC 9110, 12.5): chooses a representation.

Existing libraries break a tie by what the client names first or most exactly; here the service's order breaks it.
"""

from __future__ import annotations

import re
from urllib.request import parse_http_list

from starlette.types import Scope

from app.caching import cache_short

JSON, TEXT, CSV, BINARY = "application/json", "text/plain", "text/csv", "application/octet-stream"
VARY = {"Vary": "Accept"}  # tells caches that the response to a GET depends on `Accept`

_QUALITY = re.compile(r"0?\.\d+|[01](\.0*)?")


def accepted(scope: Scope, *offers: str) -> str:
    """Return the media type among `offers` that a request prefers.

    The first of equally preferred offers wins, and the first of all if the request accepts none: no client gets a 406.
    """
    return _choose(_list(scope, b"accept"), offers)


def accepts_gzip(scope: Scope) -> bool:
    """Whether a request prefers gzip to the response as it is, or likes both alike; without the header it does not."""
    return _prefers_gzip(_list(scope, b"accept-encoding"))


def _list(scope: Scope, wanted: bytes) -> bytes:
    """Join the headers of one name, which form one list. Every prediction runs this."""
    return b",".join([value for name, value in scope["headers"] if name == wanted])


@cache_short
def _prefers_gzip(accept_encoding: bytes) -> bool:
    found = _qualities(accept_encoding.decode("latin-1"))
    gzip = found.get("gzip", found.get("x-gzip", found.get("*", 0.0)))
    return gzip > 0 and gzip >= found.get("identity", 0.0)


@cache_short
def _choose(accept: bytes, offers: tuple[str, ...]) -> str:
    wished = _qualities(accept.decode("latin-1"))
    return max(offers, key=lambda offer: _quality(wished, offer))  # the first of equal ones


def _qualities(accept: str) -> dict[str, float]:
    """Return the quality of each media range or coding; the key of a range with parameters ends in a semicolon."""
    found: dict[str, float] = {}
    for each in parse_http_list(accept.lower()):
        media_range, *parameters = (part.strip() for part in each.split(";"))
        quality, has_others = 1.0, False
        for name, _, value in (parameter.partition("=") for parameter in parameters):
            if name.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value := value.strip()) else 1.0
            elif (name.strip(), value.strip(' "')) != ("charset", "utf-8"):  # every response is UTF-8 anyway
                has_others = True
        key = media_range + ";" * has_others
        found[key] = max(quality, found.get(key, 0.0))
    return found


def _quality(wished: dict[str, float], offer: str) -> float:
    """Return a media type's quality by the most exact range that contains it; its unknown parameters do no harm."""
    kind, _, _ = offer.partition("/")
    return next((wished[key] for key in (offer, f"{offer};", f"{kind}/*", "*/*", "*") if key in wished), 0.0)
