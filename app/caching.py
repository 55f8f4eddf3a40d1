"""Caches whose keys come from clients: bounded in bytes, since a key may be as long as a request's head."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_ENTRIES = 256  # clients use few
MAX_KEY_LENGTH = 256  # of each argument


def cache_short(function: Callable[P, T]) -> Callable[P, T]:
    """Keep what a function of strings, bytes or tuples returns, unless one of them is long."""
    cached = lru_cache(MAX_ENTRIES)(function)

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        for argument in arguments:
            if len(argument) > MAX_KEY_LENGTH:  # type: ignore[arg-type]
                return function(*arguments, **named)
        return cached(*arguments, **named)  # type: ignore[arg-type]

    call.cache_info = cached.cache_info  # type: ignore[attr-defined]
    return call
