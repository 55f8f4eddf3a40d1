"""The fast path of `POST /predict`: a declaration on its route that the path would ignore is refused at the start."""

from __future__ import annotations

import hashlib
import inspect
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response

from app.http.fast_path import Application, FastPath

# Digest of `FastAPI.build_middleware_stack` in FastAPI 0.165; `Application.build_middleware_stack` follows that code.
KNOWN_STACK = "4d76b65957b20f90"


def test_fastapi_builds_its_layers_as_before() -> None:
    source = inspect.getsource(FastAPI.build_middleware_stack)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == KNOWN_STACK, (
        "FastAPI has changed how it builds its layers: compare its build_middleware_stack with "
        "app.http.fast_path.Application, which leaves some of them out, and then write the new digest here."
    )


async def plain(request: Request) -> Response:
    return Response(request.url.path)


async def with_dependency(request: Request, key: Annotated[str, Depends(lambda: "")]) -> Response:
    return Response(request.url.path + key)


async def with_query(request: Request, limit: int = 1) -> Response:
    return Response(request.url.path * limit)


async def with_header(request: Request, accept: Annotated[str, Header()]) -> Response:
    return Response(request.url.path + accept)


def router_of(path: str, endpoint: object, **options: object) -> APIRouter:
    router = APIRouter()
    router.post(path, **options)(endpoint)  # type: ignore[arg-type, type-var]
    return router


def test_a_route_without_parameters_is_taken() -> None:
    FastPath(FastAPI(), router=router_of("/fast", plain), handlers={})


@pytest.mark.parametrize(
    ("router", "ignored"),
    [
        (router_of("/fast", with_dependency), "dependencies"),
        (router_of("/fast", plain, dependencies=[Depends(lambda: None)]), "dependencies"),
        (router_of("/fast", with_query), "query parameters"),
        (router_of("/fast", with_header), "headers"),
    ],
)
def test_a_route_whose_parameters_would_be_ignored_is_refused_at_the_start(router: APIRouter, ignored: str) -> None:
    app = Application()
    app.add_middleware(FastPath, router=router, handlers=app.exception_handlers)
    with pytest.raises(TypeError, match=f"would ignore the {ignored} of /fast"):
        app.build_middleware_stack()


def test_a_route_of_another_method_is_refused_at_the_start() -> None:
    router = APIRouter()
    router.get("/fast")(plain)
    with pytest.raises(TypeError, match="answers POST alone"):
        FastPath(FastAPI(), router=router, handlers={})
