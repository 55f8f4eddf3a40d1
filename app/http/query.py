"""Rejects unknown query parameters: if a mistyped one were ignored, its default would apply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import get_origin
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant

from app.errors import FieldError
from app.validation import invalid_input

MAX_ERRORS = 20
_PICTURES = (".png", ".svg")  # pages add parameters of their own to these URLs, so as to bypass caches


async def _check_query(request: Request) -> None:
    query = request.scope["query_string"]
    if query:
        route = request.scope["route"]
        check_names(query, dict(_declared(route.dependant)), allows_others=route.path.endswith(_PICTURES))


StrictQuery = Depends(_check_query)


def check_names(query: bytes, declared: Mapping[str, bool], *, allows_others: bool = False) -> None:
    """Reject names that are not declared, and names that occur several times but have one value.

    Args:
        query: Query string as it was sent.
        declared: Whether each declared name may occur several times.
        allows_others: Whether names that are not declared are accepted.

    Raises:
        InvalidInput: There are such names; the error lists up to `MAX_ERRORS` of them.
    """
    sent = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    errors = []
    for name, number in sent.items():
        if name not in declared:
            if not allows_others:
                errors.append(FieldError(f"?{name}", _unknown(name, declared)))
        elif number > 1 and not declared[name]:
            errors.append(FieldError(f"?{name}", f"This may be given once; it came {number} times."))
    if errors:
        raise invalid_input(errors[:MAX_ERRORS])


def _unknown(name: str, declared: Mapping[str, bool]) -> str:
    if near := get_close_matches(name[:100].lower(), declared, n=1):
        return f'There is no such parameter; did you mean "{near[0]}"?'
    names = ", ".join(sorted(declared))
    return f"There is no such parameter; here {f'are: {names}' if names else 'are none'}."


def _declared(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yield the query parameters of a route and its dependencies, each with whether it may occur several times."""
    for parameter in dependant.query_params:
        yield parameter.alias, get_origin(parameter.field_info.annotation) is list
    for each in dependant.dependencies:
        yield from _declared(each)
