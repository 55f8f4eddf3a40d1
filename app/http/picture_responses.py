"""Pictures as responses: the renderer's process draws them, unless the client already has the same picture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Request, Response

from app import __version__
from app.charts.renderer import Picture, Renderer
from app.http.turns import Turns

MAX_ON_SHEET = 120  # images in one picture
MEDIA_TYPES = {"png": "image/png", "svg": "image/svg+xml"}

IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="The ETag of what one has.")]
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is as the client has it."}}
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    **UNCHANGED,
}
SVG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}},
    **UNCHANGED,
}


async def _renderer(request: Request) -> AsyncIterator[Renderer]:
    turns: Turns = request.app.state.picture_turns
    async with turns.take(request.receive):
        yield request.app.state.renderer


# The dependency waits for the picture's turn, so a waiting endpoint has not read its data into memory yet.
RendererDep = Annotated[Renderer, Depends(_renderer, scope="function")]


def etag_of(*what: Any) -> str:
    """Return an ETag for what a picture shows; an unchanged picture is not drawn again."""
    return f'"{sha256(orjson.dumps([__version__, *what], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]}"'


def answer_unchanged(etag: str, if_none_match: str | None) -> Response | None:
    """Return a 304 if the client has the picture of this ETag, else None."""
    if if_none_match is None or (etag.removeprefix("W/") not in if_none_match and if_none_match.strip() != "*"):
        return None
    return Response(status_code=304, headers=_headers(etag))


def answer_picture(renderer: Renderer, picture: Picture, data: dict[str, Any], etag: str) -> Response:
    """Return the picture of this data, as a PNG or an SVG according to the data's `format`."""
    media_type = MEDIA_TYPES[data.get("format", "png")]
    return Response(renderer.draw(picture.value, data), media_type=media_type, headers=_headers(etag))


def _headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "no-cache"}
