"""The fast path of `POST /predict` through the application: FastAPI documents the route and never calls it.

The figures are requests per second on one core, for one image as JSON, of a comparison before this module was made. An
empty endpoint of plain FastAPI had 13,600. The fast path leaves out two things:

- FastAPI's routing and search for parameters (`FastPath`): 15,500 as a plain ASGI route, 17,900 with the fast path.
- FastAPI's own middleware, which every request passes (`Application`): 12,800 with both, 15,500 without it. That
  middleware responds to unexpected errors, which `Observation` does here; traces, which is off; and limits bodies,
  which `BodyLimit` does here.

The fast path can be removed: without `FastPath` in `create_app`, FastAPI calls the same endpoint; without
`Application`'s method, FastAPI's own middleware is back.
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
    """FastAPI without its own middleware; `tests/app/http/test_fast_path.py` fails when FastAPI changes it."""

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = ExceptionMiddleware(AsyncExitStackMiddleware(self.router), handlers=self.exception_handlers)
        for layer, arguments, options in reversed(self.user_middleware):
            app = layer(app, *arguments, **options)
        return app


class FastPath:
    """Calls the endpoint of one POST route and passes all other requests on. It belongs directly inside `BodyLimit`.

    Args:
        app: The application, which handles all other requests.
        router: Holds only this route, whose endpoint takes the request and returns a response.
        handlers: Exception handlers of the application, by class.

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
        scope["route"] = self._route  # FastAPI sets it too: requests are counted by route
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
    """Check that the route declares no parameters: its endpoint reads the query and the body by itself."""
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
