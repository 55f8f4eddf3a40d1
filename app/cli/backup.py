"""`digitlab backup`: a consistent copy of the SQLite database, while the service runs."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import typer
from sqlalchemy.engine import make_url

from app.settings import Settings


def back_up(settings: Settings, file: Path, *, overwrite: bool) -> int:
    """Copy the database to a file, all of it as of one moment. Returns the exit code.

    The copy grows beside the file, under another name, and takes its place when it is complete.
    """
    url = make_url(settings.resolved_database_url)
    if url.get_backend_name() != "sqlite":
        return _refuse("This copies SQLite databases; for Postgres there is pg_dump.")
    source = Path(url.database or "")
    if not source.is_file():
        return _refuse(f"There is no database at {source}.")
    if file.exists() and (file.samefile(source) or not overwrite):
        what = "is the database itself" if file.samefile(source) else "exists already (--overwrite)"
        return _refuse(f"{file} {what}.")
    if file.with_name(f"{file.name}-wal").exists():
        return _refuse(f"{file} is a database in use, or was not closed properly: {file.name}-wal lies beside it.")
    partial = file.with_name(f"{file.name}.partial")
    try:
        _copy(source, partial)
        partial.replace(file)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            partial.unlink()
        return _refuse(f"No backup: {error}.")
    print(f"{file}: {file.stat().st_size:,} bytes")
    return 0


def _copy(source: Path, target: Path) -> None:
    """SQLite's online backup (https://www.sqlite.org/backup.html), in one step: writers need not wait for it in WAL."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, complete by itself
        (problem,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged ({problem})")
    with target.open("rb+") as written:
        os.fsync(written.fileno())


def _refuse(why: str) -> int:
    typer.secho(why, err=True, fg="red")
    return 1
