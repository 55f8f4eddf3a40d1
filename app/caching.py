"""Caches whose keys come from clients. Their bytes are bounded, since a key may be as long as a request's head."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MAX_ENTRIES = 256  # clients send few different values
MAX_KEY_LENGTH = 256  # longest argument that is cached


def cache_short(function: Callable[P, T]) -> Callable[P, T]:
    """Cache what a function of strings, bytes or tuples returns, unless one of its arguments is long.

    A hit costs one dictionary lookup; `functools.lru_cache` would need a check of the lengths before it. A full cache
    drops its oldest entry. The wrapped function has the cache as its attribute `entries`.
    """
    entries: dict[tuple[Any, ...], T] = {}

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> T:
        if named:
            return function(*arguments, **named)
        try:
            return entries[arguments]
        except KeyError:
            value = function(*arguments, **named)
        if all(len(argument) <= MAX_KEY_LENGTH for argument in arguments):  # type: ignore[arg-type]
            if len(entries) >= MAX_ENTRIES:
                entries.pop(next(iter(entries)), None)
            entries[arguments] = value
        return value

    call.entries = entries  # type: ignore[attr-defined]
    return call
