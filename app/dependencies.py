"""What endpoints are given: sessions, the predictor, and the query parameters of every list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import StringConstraints
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import UnsupportedMedia
from app.paging import MAX_PAGE
from app.settings import Settings
from app.validation import TEXT

Id = Annotated[str, StringConstraints(max_length=36, pattern=TEXT)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most entries to return.")]
After = Annotated[str | None, Query(max_length=500, description="Cursor: the `next` of the page before.")]


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _database(request: Request) -> Database:
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


# scope="function": a writing session is committed before the answer is sent.
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
WriteSession = Annotated[Session, Depends(_writing, scope="function")]


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        got = f"got {media_type}" if media_type else "got none"
        raise UnsupportedMedia(f"Send JSON with the header 'Content-Type: application/json'; {got}.")


JsonOnly = Depends(_require_json)
