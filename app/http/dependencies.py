"""The dependencies of endpoints: settings, sessions, turns, media types, and the query parameters of every list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from sqlalchemy.orm import Session

from app.caching import cache_short
from app.database import Database
from app.errors import Forbidden, UnsupportedMedia
from app.http.access import FORBIDDEN, reads_only
from app.http.headers import find_header
from app.http.turns import Turns
from app.paging import MAX_PAGE
from app.settings import Settings

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most entries to return.")]
After = Annotated[str | None, Query(max_length=500, description="Cursor: the `next` of the page before.")]


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


SettingsDep = Annotated[Settings, Depends(_settings)]
DatabaseDep = Annotated[Database, Depends(_database)]


def _reading(database: DatabaseDep) -> Iterator[Session]:
    with database.reading() as session:
        yield session


def _writing(database: DatabaseDep) -> Iterator[Session]:
    with database.writing() as session:
        yield session


# scope="function": a writing session is committed before the response is sent.
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
WriteSession = Annotated[Session, Depends(_writing, scope="function")]


async def _dry_run(
    request: Request,
    dry_run: Annotated[bool, Query(description="Validate only, and answer what it would come to.")] = False,
) -> bool:
    """Parse `dry_run`, and reject a change by a key that only reads (see `app.api_keys.endpoint_decides`)."""
    if not dry_run and reads_only(request.scope):
        raise Forbidden(FORBIDDEN)
    return dry_run


DryRun = Annotated[bool, Depends(_dry_run)]
# An operation lists it first: the errors of later dependencies would tell a read-only key more than a 403.
AdminUnlessDry = Depends(_dry_run)


async def _take_turn(request: Request) -> AsyncIterator[None]:
    turns: Turns = request.app.state.read_turns
    async with turns.take(request.receive):
        yield


# An endpoint that may read megabytes or compute for long takes a turn: few run at once, the others hold no thread.
InTurn = Depends(_take_turn, scope="function")


JSON = "application/json"


def media_type_of(request: Request, *others: str) -> str:
    """Return the media type of a request's body: `application/json` for all kinds of JSON, or one of `others`.

    Raises:
        UnsupportedMedia: The body has another media type, or is compressed.
    """
    refuse_compression(request)
    media_type = _media_type(find_header(request.scope, b"content-type"))
    if media_type in (JSON, *others):
        return media_type
    if media_type.startswith("application/") and media_type.endswith("+json"):
        return JSON
    possible = " or ".join(f"'Content-Type: {name}'" for name in (JSON, *others))
    got = f"got {media_type}" if media_type else "got none"
    raise UnsupportedMedia(f"Send the body with the header {possible}; {got}.")


# What many clients call a type, who follow the names of files.
_ALIASES = {"image/jpg": "image/jpeg", "image/x-ms-bmp": "image/bmp", "image/x-bmp": "image/bmp"}


@cache_short
def _media_type(content_type: bytes) -> str:
    media_type = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return _ALIASES.get(media_type, media_type)


def refuse_compression(request: Request) -> None:
    """Reject a compressed body, since the service decompresses none.

    Raises:
        UnsupportedMedia: The body is compressed.
    """
    encoding = find_header(request.scope, b"content-encoding").decode("latin-1")
    if encoding not in ("", "identity"):
        raise UnsupportedMedia(f"Send the body as it is; got 'Content-Encoding: {encoding}'.")


async def _require_json(request: Request) -> None:
    media_type_of(request)


JsonOnly = Depends(_require_json)


class DescribedAs:
    """Documents a body as a model but does not parse it: its defaults depend on what the body names, as a preset."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self._model.__pydantic_core_schema__)
