"""`digitlab backup`: a consistent copy of the SQLite database, while the service runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from app.cli.terminal import complain
from app.opening import Unusable, parse_url
from app.settings import Settings
from app.visible import visible

SQLITE_SUFFIXES = ("-wal", "-shm", "-journal")


def back_up(settings: Settings, file: Path, *, overwrite: bool) -> int:
    """Copy the database, as of one moment, to a file. Return the exit code.

    The copy is written beside the file, under another name, and takes its place when it is complete.
    """
    try:
        url = parse_url(settings)
    except Unusable as error:
        return _refuse(str(error))
    if url.get_backend_name() != "sqlite":
        return _refuse("This copies SQLite databases; for Postgres there is pg_dump.")
    try:
        source = Path(url.database or "").resolve()
        target = file.resolve()  # a symbolic link stays, and its target is replaced
        if why := _objection(source, target, file, overwrite=overwrite):
            return _refuse(why)
        _replace(source, target)
        size = target.stat().st_size
    except (OSError, RuntimeError, ValueError, sqlite3.Error) as error:  # RuntimeError: a loop of links
        return _refuse(f"No backup: {error}.")
    print(visible(f"{file}: {size:,} bytes"))
    return 0


def _objection(source: Path, target: Path, file: Path, *, overwrite: bool) -> str | None:
    """Return why the copy must not be made; None: it may be."""
    if not source.is_file():
        return f"There is no database at {source}."
    if str(file) == "-":
        return "A backup goes to a file, not to standard output: name one."
    if target in (source, *(source.with_name(source.name + suffix) for suffix in SQLITE_SUFFIXES)):
        return f"{file} is the database itself, or a part of it."
    if target.exists():
        if not target.is_file():
            return f"{file} is no ordinary file."
        if target.samefile(source):
            return f"{file} is the database itself."
        if not overwrite:
            return f"{file} exists already (--overwrite)."
    if target.with_name(f"{target.name}-wal").exists():
        return f"{file} is a database in use, or was not closed properly: {target.name}-wal lies beside it."
    return None


def _replace(source: Path, target: Path) -> None:
    """Copy to an unused name beside the target, then put the copy in the target's place."""
    handle, name = tempfile.mkstemp(prefix=f"{target.name[:100]}.", suffix=".partial", dir=target.parent)
    os.close(handle)
    partial = Path(name)
    try:
        _copy(source, partial)
        shutil.copymode(target if target.exists() else source, partial)
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _copy(source: Path, target: Path) -> None:
    """Copy by SQLite's online backup (https://www.sqlite.org/backup.html) in one step; in WAL it blocks no writer."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # the copy is one file, without a WAL
        (problem,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged ({problem})")
    with target.open("rb+") as written:
        os.fsync(written.fileno())


def _refuse(why: str) -> int:
    complain(why)
    return 1
