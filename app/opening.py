"""Opens the database for a process that starts, or explains in a sentence why the database can never be used.

Temporary failures are no errors here, since the processes wait for their end: a server that does not respond yet, a
full disk, tables that are still to be migrated.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from app.database import Database, current_revision, describe_failure, migrate, migrations_folder
from app.settings import Settings
from app.tables import Table

EXAMPLE = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
VERSION_TABLE = "alembic_version"
# https://www.sqlite.org/rescode.html
_NEVER_USABLE = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


class Unusable(Exception):
    """The database cannot be used, and waiting will not help; the message is a sentence for the user."""


def open_database(settings: Settings) -> Database:
    """Check the database of these settings and open it.

    Raises:
        Unusable: The URL, the folder or the file is wrong, or the database belongs to another program or version.
    """
    url = parse_url(settings)
    if url.get_backend_name() == "sqlite" and not str(url.database).startswith("file:"):
        _check_file(Path(str(url.database)))
    database = _connect(url)
    try:
        if url.get_backend_name() != "sqlite":
            _check_server(database)
    except BaseException:
        database.close()
        raise
    return database


def open_migrated(settings: Settings) -> Database:
    """Open the database of these settings and migrate it to this version's schema.

    Raises:
        Unusable: The database is unusable as in `open_database`, does not respond, or cannot be migrated.
    """
    database = open_database(settings)
    try:
        migrate(database)
    except SQLAlchemyError as error:
        database.close()
        raise Unusable(f"{_name(database.url)} cannot be migrated. {describe_failure(error)}") from error
    except BaseException:
        database.close()
        raise
    return database


def parse_url(settings: Settings) -> URL:
    """Return the URL of the database without opening it.

    Raises:
        Unusable: The URL names no database that digitlab can use.
    """
    try:
        url = make_url(settings.resolved_database_url)
    except (ArgumentError, ValueError):  # their messages may hold the password
        raise Unusable(f"DIGITLAB_DATABASE_URL is no database's URL: write it as in {EXAMPLE}.") from None
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise Unusable(f"DIGITLAB_DATABASE_URL names {backend!r}: digitlab keeps its data in SQLite or Postgres.")
    if backend == "sqlite" and _is_in_memory(url):
        raise Unusable(
            "DIGITLAB_DATABASE_URL names a database in memory, which other processes cannot see: name a file, as in "
            "sqlite:////var/lib/digitlab/digitlab.db."
        )
    return url


def _is_in_memory(url: URL) -> bool:
    return not url.database or ":memory:" in url.database or url.query.get("mode") == "memory"


def _connect(url: URL) -> Database:
    try:
        database = Database(url)
    except (ImportError, NoSuchModuleError) as error:
        hint = "pip install 'digitlab[postgres]'" if url.get_backend_name() == "postgresql" else EXAMPLE
        raise Unusable(f"The driver of {url.drivername!r} is missing ({error}): {hint}.") from None
    except OSError as error:
        raise Unusable(f"The folder of {_name(url)} cannot be made: {error.strerror or error}.") from None
    except (SQLAlchemyError, TypeError, ValueError) as error:
        raise Unusable(f"{_name(url)} cannot be opened: {' '.join(str(error).split())}.") from None
    if database.engine.dialect.is_async:
        database.close()
        raise Unusable(f"{url.drivername!r} is for asynchronous programs: write the URL as in {EXAMPLE}.")
    return database


def _check_file(file: Path) -> None:
    """Check the file and its folder, if they exist; SQLite's own message does not say which of them is wrong."""
    try:
        if file.is_dir():
            raise Unusable(f"{file} is a folder, where the database's file should be.")
        if file.exists() and not file.is_file():
            raise Unusable(f"{file} is no ordinary file.")
        if file.exists() and _is_on_read_only_disk(file):
            return  # it may be temporary: a disk is mounted read-only after an error
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            raise Unusable(f"{file} cannot be read and written by this user.")
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise Unusable(f"{folder} is a file, where the data folder should be (DIGITLAB_DATA_DIR).")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise Unusable(f"The folder {folder} cannot be written to by this user (DIGITLAB_DATA_DIR).")
        if file.is_file() and file.stat().st_size:
            _check_content(file)
    except (OSError, ValueError) as error:
        raise Unusable(f"{file} cannot be used: {getattr(error, 'strerror', None) or error}.") from None


def _is_on_read_only_disk(file: Path) -> bool:
    return sys.platform != "win32" and bool(os.statvfs(file).f_flag & os.ST_RDONLY)


def _check_content(file: Path) -> None:
    """Inspect the file without writing to it: the engine would set the journal mode of another program's database."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            rows = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}") if VERSION_TABLE in tables else ()
            revision = next((revision for (revision,) in rows), None)
    except sqlite3.Error as error:
        if error.sqlite_errorname.startswith(_NEVER_USABLE):
            raise Unusable(f"{file} is damaged, or no SQLite database ({error}).") from None
        if "no such column" in str(error):
            raise Unusable(f"{file} is another program's database.") from None
        return  # the failure may be temporary
    own = {name for name in tables if not name.startswith("sqlite_")} - {VERSION_TABLE}
    _check_owner(str(file), own, revision, is_shared=False)


def _check_server(database: Database) -> None:
    try:
        with database.reading() as session:
            tables = set(inspect(session.connection()).get_table_names())
            revision = current_revision(session) if VERSION_TABLE in tables else None
    except SQLAlchemyError:
        return  # the failure may be temporary
    _check_owner(_name(database.url), tables - {VERSION_TABLE}, revision, is_shared=True)


def _check_owner(name: str, tables: set[str], revision: str | None, *, is_shared: bool) -> None:
    """Check that a database belongs to digitlab, of this version or an earlier one.

    Args:
        name: Name of the database in messages.
        tables: Names of the tables in the database.
        revision: Newest migration that was applied to the database; None: no migration.
        is_shared: Whether tables of other programs are allowed beside digitlab's.
    """
    own = tables & set(Table.metadata.tables)
    if revision is None and (own or (tables and not is_shared)):
        raise Unusable(f"{name} is another program's database: it has tables that digitlab did not make.")
    if revision is not None and revision not in _known_revisions():
        if "runs" in own:
            raise Unusable(f"{name} was made by a newer version of digitlab (migration {revision}): install that one.")
        raise Unusable(f"{name} is another program's database (migration {revision}).")


def _known_revisions() -> set[str]:
    return {file.name.partition("_")[0] for file in (migrations_folder() / "versions").glob("*.py")}


def _name(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
