"""The way of a request with pictures or strokes to its pixels. Importing this module loads neither Pillow nor a parser.

Pictures take turns in a thread of their own, so that one large picture at a time is in memory and predictions of 8×8
arrays wait for none of it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from fastapi import Request

from app.http.dependencies import JSON
from app.http.headers import find_header
from app.http.threads import Lane
from app.pictures.schemas import TYPES

if TYPE_CHECKING:
    from app.pictures.digitization import Digitization, Digitized

SLICE_SECONDS = 0.02  # after which another request's pictures have their turn

_INSTANCES = b'{"instances"'
_DRAWINGS = re.compile(r'\s*\{\s*"(?:pictures|strokes)"')
_HEAD_BYTES = 1024  # of a body: the spaces that may come before its first field, in any encoding


def has_drawings(media_type: str, body: bytes) -> bool:
    """Whether a body holds pictures or strokes; a body of 8×8 arrays costs a comparison or two."""
    if media_type != JSON:
        return media_type in TYPES
    if body.startswith(_INSTANCES):
        return False
    head = body[:_HEAD_BYTES].decode(json.detect_encoding(body), "replace")
    return _DRAWINGS.match(head) is not None


async def digitize(request: Request, media_type: str, body: bytes) -> Digitized:
    """Make pixels of a body's pictures or strokes.

    Raises:
        MalformedBody: The body is not JSON, or not multipart.
        InvalidInput: A picture or a stroke is wrong; the error names it.
        TooLarge: The pictures have too many pixels.
    """
    lane: Lane = request.app.state.lanes.pictures
    content_type = find_header(request.scope, b"content-type")

    def begin() -> Digitization:
        from app.pictures.digitization import Digitization

        work = Digitization(media_type, content_type, body)
        work.go_on(SLICE_SECONDS)
        return work

    work = await lane.run(begin)
    while not work.is_finished:
        await lane.run(work.go_on, SLICE_SECONDS)
    return work.result
