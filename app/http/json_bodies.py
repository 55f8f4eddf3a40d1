"""Parses JSON bodies. JSON has only one kind of number, so 60.0 is read as 60.

`/predict` and `/v2` parse their bodies themselves, since Python's parser would take longer than the prediction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.errors import AppError, FieldError, MalformedBody
from app.validation import MAX_INTEGER, invalid_input, is_text, whole_number, write_pointer

MAX_ERRORS = 20
NO_TEXT = "A text holds U+0000, or half of a surrogate pair (\\ud800 to \\udfff), which is no character"
# A body with such a text matches; so does one with an escaped pair (`\ud83d\ude00`), which `_require_texts` accepts.
_SUSPICIOUS = re.compile("[\ud800-\udfff]|\\\\u(?:0000|[dD][89a-fA-F])")

MAX_DIGITS = 20  # a longer integer is beyond 64 bits; Python parses thousands of digits slowly, or not at all
_LONG_NUMBER = re.compile("[0-9]{19}")
INLINE_BYTES = 2**16  # a larger body is parsed in a thread, so that other requests need not wait for it


def parse(body: bytes) -> Any:
    """Parse a body. Whole numbers become `int`, also those written as 60.0; numbers beyond 64 bits become `float`.

    Raises:
        JSONDecodeError: The body is not JSON.
        MalformedBody: The body is not UTF-8 text, or is nested too deeply.
        InvalidInput: Texts in the body cannot be stored; the error names the first `MAX_ERRORS`.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        parse_int = _read_integer if _LONG_NUMBER.search(text) else None  # without it, parsing is several times as fast
        document = json.loads(text, parse_float=_read_float, parse_int=parse_int)
        if _SUSPICIOUS.search(text):
            _require_texts(document)
        return document
    except UnicodeDecodeError:
        raise MalformedBody("The body is not JSON: it is not UTF-8 text.") from None
    except RecursionError:
        raise MalformedBody("The body is nested too deeply.") from None


def parse_leniently(body: bytes) -> Any:
    """Parse a body with Python's parser, which accepts NaN, Infinity and huge integers: errors can name the place."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise MalformedBody(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from None
    except UnicodeDecodeError:
        raise MalformedBody("The body is not JSON: it is not UTF-8 text.") from None
    except (RecursionError, ValueError):
        raise MalformedBody(
            "The body is not JSON that can be read: it is nested too deeply, or a number is too long."
        ) from None


def _require_texts(document: Any) -> None:
    """Check that every text and every name of a field can be stored, sent and searched for."""
    errors: list[FieldError] = []
    path: list[str | int] = []

    def look(value: Any) -> None:
        if isinstance(value, str) and not is_text(value):
            errors.append(FieldError(f"#{write_pointer(path)}", NO_TEXT))
        if len(errors) >= MAX_ERRORS or not isinstance(value, dict | list):
            return
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            path.append(step)
            look(step)
            look(inner)
            path.pop()

    look(document)
    if errors:
        raise invalid_input(errors)


def _read_float(text: str) -> int | float:
    number: int | float = whole_number(float(text))
    return number


def _read_integer(text: str) -> int | float:
    number = float(text) if len(text) > MAX_DIGITS else int(text)
    return number if abs(number) <= MAX_INTEGER else float(number)


class _JsonRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        return parse(body) if len(body) <= INLINE_BYTES else await run_in_threadpool(parse, body)


class JsonRoute(APIRoute):
    """A route whose body FastAPI reads with `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            try:
                return await handle(_JsonRequest(request.scope, request.receive))
            except HTTPException as error:
                if isinstance(error.__cause__, AppError):  # FastAPI turns every error of `json` into a 400
                    raise error.__cause__ from None
                raise

        return handle_json if self.body_field is not None else handle
