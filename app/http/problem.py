"""Writes every error body: `application/problem+json` (RFC 9457), or the Open Inference Protocol's own below `/v2`.

`app.http.protocol` alone sends such bodies without the application.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.database import DATABASE_FAILURES, describe_failure, explain_failure
from app.errors import AppError, FieldError
from app.logs import REQUEST_ID
from app.validation import invalid_places, json_pointer, printable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemError(BaseModel):
    pointer: str = Field(
        description="Where: a JSON pointer into the body (`#/model`), `?name` in the query, `{name}` in the path.",
        examples=["#/training/epochs"],
    )
    detail: str = Field(examples=["Input should be greater than or equal to 1; got 0"])


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="A stable name for programs.", examples=["/problems/run-not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no run 01a20e0d-2749-744b-97b3-2c4e726a71a1."])
    instance: str = Field(
        description="The path that was asked for.", examples=["/runs/01a20e0d-2749-744b-97b3-2c4e726a71a1"]
    )
    errors: list[ProblemError] | None = Field(None, description="What is wrong with the input, place by place.")
    request_id: str | None = Field(
        None, description="The answer's X-Request-ID; the service's log carries it too.", examples=["4f1c…"]
    )


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the error responses of an operation: these statuses, and those that any operation may have."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in sorted({*statuses, 422, 500, 503})
    }


class InferenceError(BaseModel):
    """An error, as the Open Inference Protocol has it."""

    error: str = Field(examples=["There is no run nobody."])


def protocol_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare the error responses of an operation of the Open Inference Protocol."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceError"}}}
    return {status: answer | {"content": content} for status, answer in problems(*statuses).items()}


def render(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] = (),
) -> Response:
    path = request.url.path
    if is_of_protocol(path):
        return Response(
            InferenceError(error=printable(detail)).model_dump_json(),
            status_code=status,
            headers=dict(headers or {}),
            media_type="application/json",
        )
    body = write(path, status, slug, detail, errors)
    return Response(body, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def is_of_protocol(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol, which has error bodies of its own."""
    return path == "/v2" or path.startswith("/v2/")


def write(instance: str, status: int, slug: str, detail: str, errors: Sequence[FieldError] = ()) -> str:
    """Return a problem body; the caller needs no request."""
    problem = Problem(
        type=f"/problems/{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=printable(detail),
        instance=instance,
        errors=[ProblemError(pointer=printable(error.pointer), detail=printable(error.detail)) for error in errors]
        or None,
        request_id=REQUEST_ID.get(),
    )
    return problem.model_dump_json(exclude_none=True)


def install(app: FastAPI) -> None:
    """Make the application respond to every error with a problem body; `Observation` catches unexpected errors."""
    app.add_exception_handler(AppError, _on_app_error)
    app.add_exception_handler(RequestValidationError, _on_request_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for late in (DataError, UnicodeEncodeError, OverflowError):
        app.add_exception_handler(late, _on_value_that_cannot_be_used)
    for kind in DATABASE_FAILURES:
        app.add_exception_handler(kind, _on_database_failure)


async def _on_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return render(request, error.status, error.slug, error.detail, headers=error.headers, errors=error.errors)


async def _on_request_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    if details[0]["type"] == "json_invalid":
        reason, position = details[0]["ctx"]["error"], details[0]["loc"][-1]
        return render(request, 400, "malformed-json", f"The body is not JSON: {reason} at character {position}.")
    return await _on_app_error(request, invalid_places(details, lambda detail: _place(detail["loc"], error.body)))


def _place(location: Sequence[str | int], body: Any) -> str:
    part, *rest = location
    if part == "body":
        return "#" + json_pointer(rest, body)
    name = "/".join(map(str, rest))
    return {"query": f"?{name}", "path": f"{{{name}}}"}.get(str(part), f"{part}: {name}")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug, detail = {
        400: ("malformed-body", f"The body could not be read: {error.detail}."),
        404: ("not-found", f"There is nothing at {request.url.path}."),
        405: ("method-not-allowed", f"{request.method} is not possible here; the Allow header says what is."),
        413: ("body-too-large", "The body is larger than this service takes (DIGITLAB_MAX_BODY_BYTES)."),
        503: ("too-busy", "Other requests fill the memory that there is for bodies; try again later."),
    }.get(error.status_code, ("http-error", str(error.detail)))
    # Starlette names only the methods of the first route with this path.
    headers = {"Allow": ", ".join(_allowed_methods(request))} if error.status_code == 405 else error.headers
    return render(request, error.status_code, slug, detail, headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    path = request.scope["path"]
    same_path = (route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(path))
    methods = {method for route in same_path for method in route.methods or ()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


async def _on_database_failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, SQLAlchemyError)
    logger.error("No answer to %s %s: %s", request.method, request.url.path, describe_failure(error))
    return render(request, 503, "database-unavailable", explain_failure(error), headers={"Retry-After": "2"})


async def _on_value_that_cannot_be_used(request: Request, error: Exception) -> Response:
    """Reject a value that validation missed, without its place; a GET has no body to blame, so its error is raised."""
    if request.method == "GET":
        raise error
    logger.error("Refused late: %s %s", request.method, request.url.path, exc_info=error)
    detail = {
        DataError: "A text or a number is none that the database can store or look for.",
        UnicodeEncodeError: "A text holds half of a surrogate pair (\\ud800 to \\udfff), which is no character.",
        OverflowError: "A number is larger than any that can be stored or computed with.",
    }
    return render(request, 422, "invalid-input", next(each for kind, each in detail.items() if isinstance(error, kind)))


def unexpected(request: Request) -> Response:
    """Return the response to an unexpected error: it has no internals, only the id under which the log has them."""
    detail = "Something unexpected went wrong; the service's log says what, under this request_id."
    return render(request, 500, "internal-error", detail)
