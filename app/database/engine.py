"""The engine of SQLite or Postgres, its transactions, and a log line if one holds the write lock for long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    insert,
    inspect,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from app.database.failures import READ_ONLY_SQLSTATE
from app.database.types import to_json

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_MS = 30_000  # how long a writer waits for another
# Postgres ends a transaction that is idle for longer and releases its locks: the process was stopped, or has vanished.
# Transactions last milliseconds here, and the leases of all workers must outlast a wait for one of them.
IDLE_TRANSACTION_TIMEOUT_MS = 3_000
MAX_IDLE_WAL_BYTES = 16 * 2**20
LONG_LOCK_SECONDS = 0.5  # a longer writing transaction is logged
INCREMENTAL = 2  # SQLite's number for this kind of auto_vacuum
KEPT_FREE_PAGES = 256  # free pages that SQLite's file keeps, 1 MiB: they are soon filled again


class Database:
    """One database: SQLite by default, Postgres by its URL. Threads may share an instance, processes may not."""

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        self.engine = _create_engine(url)
        is_sqlite = self.engine.dialect.name == "sqlite"
        snapshot = {} if is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._readers = sessionmaker(self.engine.execution_options(**snapshot), expire_on_commit=False)
        self._writers = sessionmaker(self.engine.execution_options(writes=True), expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session over one consistent snapshot; nothing is committed."""
        with self._readers() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a session whose transaction is committed at the end, after the actions given to `before_commit`.

        The session holds SQLite's write lock from its start: a transaction that becomes a writer later may fail with
        "database is locked" (https://www.sqlite.org/lang_transaction.html).
        """
        with self._writers.begin() as session:
            yield session
            while actions := session.info.pop(BEFORE_COMMIT, ()):  # an action may register others
                for action in actions:
                    action(session)

    def close(self) -> None:
        """Close all connections; one that a thread still uses, when it comes back."""
        event.listen(self.engine.pool, "checkin", _close_late)
        self.engine.dispose()


def _close_late(connection: Any, _record: Any) -> None:
    """Close a connection that comes back to a closed pool, which would keep it until it is collected as garbage."""
    if connection is not None:  # None: it is closed already
        connection.close()


BEFORE_COMMIT = "before_commit"


def before_commit(session: Session, action: Callable[[Session], None]) -> None:
    """Run an action at the very end of a writing session, unless the session is rolled back."""
    session.info.setdefault(BEFORE_COMMIT, []).append(action)


def used_bytes(session: Session) -> int:
    """Return the size of the database, without SQLite's free pages: deleted rows have left them for reuse."""
    if session.get_bind().dialect.name == "sqlite":
        names = "page_count", "freelist_count", "page_size"
        num_pages, num_free, page_bytes = (session.execute(text(f"PRAGMA {name}")).scalar_one() for name in names)
        return int((num_pages - num_free) * page_bytes)
    return int(session.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def insert_plainly(session: Session, table: type[DeclarativeBase], rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows by the driver alone: SQLAlchemy takes several times as long per row as SQLite.

    Args:
        session: Writing session that has already flushed the rows that these refer to.
        table: Receives the rows.
        rows: Values of all columns, in the table's order and as the driver takes them: JSON by `to_json`.
    """
    if not rows:
        return
    names = [column.name for column in inspect(table).columns]
    connection = session.connection()
    statement = insert(table).compile(dialect=connection.dialect, column_keys=names)
    if statement.positiontup is not None:
        connection.exec_driver_sql(str(statement), [tuple(row) for row in rows])
    else:
        connection.exec_driver_sql(str(statement), [dict(zip(names, row, strict=True)) for row in rows])


def _create_engine(url: str | URL) -> Engine:
    parsed = make_url(url)
    options: dict[str, Any] = {"json_serializer": to_json, "json_deserializer": orjson.loads}
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed, pool_pre_ping=True, **options)
        event.listen(engine, "connect", _set_timeouts)
        event.listen(engine, "handle_error", _leave_read_only_server)
        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    # SQLAlchemy leaves BEGIN to `_begin`, so that writers can use BEGIN IMMEDIATE:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#sqlite-transactions
    options["connect_args"] = {"timeout": LOCK_TIMEOUT_MS / 1000, "isolation_level": None}
    engine = create_engine(parsed, **options)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _note_start)
    event.listen(engine, "after_cursor_execute", _note_slowest)
    event.listen(engine, "commit", _report_long_lock)
    event.listen(engine, "rollback", _report_long_lock)
    return engine


def _set_pragmas(dbapi_connection: Any, _record: object) -> None:
    # synchronous=FULL: committed data survives a power failure too (https://www.sqlite.org/pragma.html).
    # journal_size_limit: the WAL does not keep its size after a large transaction.
    (num_pages,) = dbapi_connection.execute("PRAGMA page_count").fetchone()
    if not num_pages:  # on a file with pages it would wait for the write lock; `digitlab vacuum` sets it there
        dbapi_connection.execute("PRAGMA auto_vacuum=INCREMENTAL").close()
    for pragma in (
        "journal_mode=WAL",
        f"journal_size_limit={MAX_IDLE_WAL_BYTES}",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _set_timeouts(dbapi_connection: Any, _record: object) -> None:
    with dbapi_connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TRANSACTION_TIMEOUT_MS}")
    dbapi_connection.commit()


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Reconnect after a server has turned out to be read-only: another server may have taken its place."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_SQLSTATE:
        context.is_disconnect = True


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    connection.info["lock"] = _HeldLock(time.monotonic()) if writes else None


@dataclass
class _HeldLock:
    """The write lock that a transaction holds, and its slowest statement."""

    since: float
    statement_since: float = 0.0
    slowest: str = ""
    slowest_seconds: float = 0.0


def _note_start(connection: Connection, *_: object) -> None:
    lock: _HeldLock | None = connection.info.get("lock")
    if lock is not None:
        lock.statement_since = time.monotonic()


def _note_slowest(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
    lock: _HeldLock | None = connection.info.get("lock")
    if lock is not None and (seconds := time.monotonic() - lock.statement_since) > lock.slowest_seconds:
        lock.slowest, lock.slowest_seconds = statement, seconds


def _report_long_lock(connection: Connection) -> None:
    if connection.invalidated:  # as by Ctrl-C in a statement: the closed connection released the lock
        return
    lock: _HeldLock | None = connection.info.pop("lock", None)
    if lock is not None and (seconds := time.monotonic() - lock.since) > LONG_LOCK_SECONDS:
        statement = " ".join(lock.slowest.split())[:200]
        said = "The write lock was held for %.2f s; its slowest statement took %.2f s: %s"
        logger.info(said, seconds, lock.slowest_seconds, statement)


def give_back_free_pages(session: Session, most: int) -> int:
    """Shorten SQLite's file by at most `most` of its free pages. Return the number of pages removed.

    Files from before `auto_vacuum` keep their free pages until `digitlab vacuum`.
    """
    if session.get_bind().dialect.name != "sqlite" or session.scalar(text("PRAGMA auto_vacuum")) != INCREMENTAL:
        return 0
    number = min(most, (session.scalar(text("PRAGMA freelist_count")) or 0) - KEPT_FREE_PAGES)
    if number <= 0:
        return 0
    connection: Any = session.connection().connection.driver_connection
    for _ in range(number):  # the pragma frees one page a step, and Python's module makes one step
        connection.execute("PRAGMA incremental_vacuum(1)")
    return number
