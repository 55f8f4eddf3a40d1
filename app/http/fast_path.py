"""The short way through the application that `POST /predict` takes: FastAPI documents the route and never calls it.

What is left out, and what one image by JSON gains by it (requests a second on one core, 2026-11-25):

- FastAPI's routing and search for parameters (`FastPath`): 15,500 as a plain ASGI route, 17,900 with the fast path.
- FastAPI's own layers, which each request pays for (`Application`): 12,800 with them, where an empty endpoint of
  FastAPI has 13,600. They answer unexpected errors, which `Observation` does; trace, which is off; and bound bodies,
  as `BodyLimit` does.

To do without: remove `FastPath` from `create_app`, and FastAPI calls the same endpoint. Remove `Application`'s method,
and FastAPI's own layers are back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Application(FastAPI):
    """FastAPI without its own layers; `tests/app/http/test_fast_path.py` fails when FastAPI changes them."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app


class FastPath:
    """Answers one POST route by its endpoint, and lets everything else pass. It belongs right inside `BodyLimit`.

    Args:
        app: Answers everything else.
        router: Holds the route, alone. Its endpoint takes the request and returns a response.
        handlers: The application's exception handlers, by class.

    Raises:
        TypeError: The route has parameters or dependencies, which would be ignored here.
    """

    def __init__(self, app: ASGIApp, *, router: APIRouter, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        self.app = app
        (self._route,) = (route for route in router.routes if isinstance(route, APIRoute))
        _check_that_nothing_is_ignored(self._route)
        self._path = self._route.path
        self._endpoint: Callable[[Request], Awaitable[Response]] = self._route.endpoint
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        scope["route"] = self._route  # as FastAPI does it: the metrics are counted by route
        request = Request(scope, receive)
        try:
            response = await self._endpoint(request)
        except Exception as error:
            handler = next((self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers), None)
            if handler is None:
                raise
            response = await handler(request, error)
        await response(scope, receive, send)


def _check_that_nothing_is_ignored(route: APIRoute) -> None:
    """The path takes no parameters; the endpoint reads the query and the body by itself."""
    wanted = route.dependant
    ignored = {
        "dependencies": wanted.dependencies,
        "path parameters": wanted.path_params,
        "query parameters": wanted.query_params,
        "headers": wanted.header_params,
        "cookies": wanted.cookie_params,
        "body parameters": wanted.body_params,
    }
    if found := [name for name, values in ignored.items() if values]:
        raise TypeError(f"The fast path would ignore the {' and '.join(found)} of {route.path}.")
    if route.methods != {"POST"}:
        raise TypeError(
            f"The fast path answers POST alone; {route.path} takes {', '.join(sorted(route.methods or ()))}."
        )
