"""Which of several representations a client gets: the header `Accept` (RFC 9110, 12.5.1).

The libraries that there are break a tie by what the client names first or most exactly; here the service's order does.
"""

from __future__ import annotations

import re
from urllib.request import parse_http_list

from starlette.types import Scope

from app.caching import cache_short

JSON, TEXT, CSV = "application/json", "text/plain", "text/csv"
VARY = {"Vary": "Accept"}  # for caches, with what answers a GET

_QUALITY = re.compile(r"0?\.\d+|[01](\.0*)?")


def accepted(scope: Scope, *offers: str) -> str:
    """The media type among `offers` that a request likes best.

    It is the first of those that it likes equally, and the first of all where it likes none: nobody gets a 406.
    """
    # Several lines are one list. This is on the way of every prediction.
    return _choose(b",".join([value for name, value in scope["headers"] if name == b"accept"]), offers)


@cache_short
def _choose(accept: bytes, offers: tuple[str, ...]) -> str:
    qualities = _read(accept.decode("latin-1"))
    return max(offers, key=lambda offer: _quality(qualities, offer))  # the first of several


def _read(accept: str) -> dict[str, float]:
    """The quality of each media range; of one that has parameters, the key ends in a semicolon."""
    qualities: dict[str, float] = {}
    for each in parse_http_list(accept.lower()):
        media_range, *parameters = (part.strip() for part in each.split(";"))
        quality, has_others = 1.0, False
        for name, _, value in (parameter.partition("=") for parameter in parameters):
            if name.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value := value.strip()) else 1.0
            elif (name.strip(), value.strip(' "')) != ("charset", "utf-8"):  # in which all is written anyway
                has_others = True
        key = "*/*" if media_range == "*" else media_range + ";" * has_others
        qualities[key] = max(quality, qualities.get(key, 0.0))
    return qualities


def _quality(qualities: dict[str, float], offer: str) -> float:
    """Of a media type, by the most exact range that it is in. A parameter that is not known here does no harm."""
    kind, _, _ = offer.partition("/")
    return next((qualities[key] for key in (offer, f"{offer};", f"{kind}/*", "*/*") if key in qualities), 0.0)
