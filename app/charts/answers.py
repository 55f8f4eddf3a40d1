"""Pictures as answers: drawn in the renderer's process, and not again for a client that has the same one."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Request, Response

from app import __version__
from app.charts.renderer import Renderer

PNG = "image/png"

IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="The ETag of the picture that one has.")]


async def _renderer(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.renderer
    return renderer


RendererDep = Annotated[Renderer, Depends(_renderer)]


def answer_picture(renderer: Renderer, module: str, data: dict[str, Any], if_none_match: str | None) -> Response:
    """The picture that a module draws of this data; 304 for a client that has it.

    The ETag tells the data, so that nothing is drawn to find out.
    """
    digest = sha256(orjson.dumps([__version__, module, data], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    headers = {"ETag": f'"{digest}"', "Cache-Control": "no-cache"}
    if if_none_match is not None and digest in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(renderer.draw(module, data), media_type=PNG, headers=headers)
