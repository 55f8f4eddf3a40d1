"""The OpenAPI document: what FastAPI derives, plus the problem body that every error answer refers to."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.problem import Problem

_REFERENCE = "#/components/schemas/{model}"


def parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """A pydantic model as query parameters, for an operation that reads them without FastAPI."""
    schema = query.model_json_schema(ref_template=_REFERENCE)
    return [
        {"name": name, "in": "query", "required": False, "description": field.pop("description"), "schema": field}
        for name, field in schema["properties"].items()
    ]


def describe(app: FastAPI) -> None:
    """Replace the application's `openapi` by one whose error answers are problem bodies."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template=_REFERENCE)
    schemas |= problem.pop("$defs", {}) | {"Problem": problem}
    return document
