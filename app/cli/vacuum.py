"""`digitlab vacuum`: makes the SQLite file as small as its content, and able to shrink by itself from then on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.database import MAX_IDLE_WAL_BYTES, Database, describe_failure
from app.settings import Settings
from app.worker_registry import repository as workers


def vacuum(settings: Settings) -> int:
    """Rewrite the file. Return the exit code."""
    database = Database(settings.resolved_database_url)
    if database.url.get_backend_name() != "sqlite":
        return _refuse("This is for SQLite; Postgres vacuums by itself.")
    file = Path(database.url.database or "")
    if not file.is_file():
        return _refuse(f"There is no database at {file}.")
    try:
        with database.reading() as session:
            alive = workers.WorkerWatch(settings.lease_seconds).list_alive(session)
    except SQLAlchemyError as error:
        return _refuse(f"Nothing was changed: {describe_failure(error)}")
    finally:
        database.close()
    if alive:
        return _refuse("A worker is running, and would lose its runs meanwhile: stop the service first.")
    before = file.stat().st_size
    try:
        _write_anew(file)
    except sqlite3.Error as error:
        return _refuse(f"Nothing was changed: {error}.")
    print(f"{file}: {before:,} bytes before, {file.stat().st_size:,} now")
    return 0


def _write_anew(file: Path) -> None:
    """Rewrite the file, which takes up to twice its size as extra space (https://www.sqlite.org/lang_vacuum.html)."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_size_limit={MAX_IDLE_WAL_BYTES}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _refuse(why: str) -> int:
    typer.secho(why, err=True, fg="red")
    return 1
