"""Endpoints of the page: `/` and the files below `/web/`. `app.http.observation` adds the page's strict policy."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.errors import NotFound
from app.http.headers import find_header
from app.http.negotiation import accepts_gzip
from app.web import files

# The page is no operation of the API: the OpenAPI document leaves it out.
router = APIRouter(include_in_schema=False)

PAGE = "index.html"  # at `/` alone: its addresses are relative
# A browser asks each time whether its copy is current: a new version of the service is a new page at once.
_HEADERS = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}


@router.get("/")
async def get_page(request: Request) -> Response:
    return _send(request, PAGE)


@router.get("/web/{name:path}")
async def get_file(request: Request, name: str) -> Response:
    return _send(request, "" if name == PAGE else name)


def _send(request: Request, name: str) -> Response:
    file = files.load(name)
    if file is None:
        raise NotFound("The page has no such file.", slug="file-not-found")
    is_compressed = accepts_gzip(request.scope)
    etag = file.etag(is_compressed=is_compressed)
    headers = {**_HEADERS, "ETag": etag}
    if etag in find_header(request.scope, b"if-none-match").decode("latin-1"):
        return Response(status_code=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.compressed if is_compressed else file.content, media_type=file.media_type, headers=headers)
