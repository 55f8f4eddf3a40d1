"""Bodies of JSON, read as JSON means them: it knows one kind of number, so that 60.0 is 60.

`/predict` and `/v2` read theirs themselves, since Python's parser would take longer than the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.errors import AppError, MalformedBody
from app.validation import MAX_INTEGER, whole_number

MAX_DIGITS = 20  # a longer integer is beyond 64 bits; Python reads thousands of digits slowly, or not at all


def parse(body: bytes) -> Any:
    """A body as Python has it, with whole numbers as `int`; those beyond 64 bits as `float`, which no field takes.

    Raises:
        JSONDecodeError: It is not JSON.
        MalformedBody: It is JSON that cannot be read.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return json.loads(text, parse_float=_read_float, parse_int=_read_integer)
    except UnicodeDecodeError:
        raise MalformedBody("The body is not JSON: it is not UTF-8 text.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def _read_float(text: str) -> int | float:
    number: int | float = whole_number(float(text))
    return number


def _read_integer(text: str) -> int | float:
    number = float(text) if len(text) > MAX_DIGITS else int(text)
    return number if abs(number) <= MAX_INTEGER else float(number)


class _JsonRequest(Request):
    async def json(self) -> Any:
        return parse(await self.body())


class JsonRoute(APIRoute):
    """A route whose body FastAPI reads by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            try:
                return await handle(_JsonRequest(request.scope, request.receive))
            except HTTPException as error:
                if isinstance(error.__cause__, AppError):  # FastAPI makes a 400 of whatever `json` raises
                    raise error.__cause__ from None
                raise

        return handle_json if self.body_field is not None else handle
