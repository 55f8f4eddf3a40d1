"""The OpenAPI document: what FastAPI derives, plus the error bodies (`Problem`; `InferenceError` below `/v2`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.api_keys import required_scope
from app.http.problem import InferenceError, Problem, is_of_protocol, problems, protocol_errors

_REFERENCE = "#/components/schemas/{model}"


def parameters(query: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a pydantic model as query parameters, for an operation that reads them without FastAPI."""
    schema = query.model_json_schema(ref_template=_REFERENCE)
    return [
        {"name": name, "in": "query", "required": False, "description": field.pop("description"), "schema": field}
        for name, field in schema["properties"].items()
    ]


def describe(app: FastAPI, *, bodies: Iterable[type[BaseModel]], with_keys: bool, server: str) -> None:
    """Replace the application's `openapi` by one with problem bodies as error responses, and with API keys.

    Args:
        app: The application.
        bodies: Models of bodies that operations read without FastAPI, and refer to by `reference`.
        with_keys: Whether operations need keys.
        server: URL under which clients find the operations.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, [Problem, InferenceError, *bodies], server)
            if with_keys:
                _declare_keys(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def reference(model: type[BaseModel]) -> dict[str, Any]:
    """Return a schema that refers to a model in the document."""
    return {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}


def any_of(*models: type[BaseModel]) -> dict[str, Any]:
    """Return a schema of a body that is one of several models in the document."""
    return {"schema": {"anyOf": [reference(model)["schema"] for model in models]}}


def _document(app: FastAPI, models: Iterable[type[BaseModel]], server: str) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        license_info=app.license_info,
        routes=app.routes,
        servers=[{"url": server}],
    )
    schemas = document["components"]["schemas"]
    for model in models:
        schema = model.model_json_schema(ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {}) | {model.__name__: schema}
    return document


def _declare_keys(document: dict[str, Any]) -> None:
    """Declare which operations need a key, and their responses 401 and 403."""
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if required_scope(method.upper(), path) is not None:
                operation["security"] = [{"key": []}]
                errors = (protocol_errors if is_of_protocol(path) else problems)(401, 403)
                operation["responses"] |= {str(status): answer for status, answer in errors.items()}
