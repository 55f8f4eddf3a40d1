"""The errors of a database that fails, and the messages that explain them."""

from __future__ import annotations

from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

READ_ONLY_SQLSTATE = "25006"

# A failing database raises these; SQLAlchemy's other errors are bugs of the service. Postgres raises InternalError when
# it is read-only.
DATABASE_FAILURES = (OperationalError, ProgrammingError, InternalError, InterfaceError, PoolTimeout)


def explain_failure(error: SQLAlchemyError) -> str:
    """Explain to the client, in a sentence, why the database failed."""
    original = getattr(error, "orig", None)
    # https://www.sqlite.org/rescode.html and https://www.postgresql.org/docs/current/errcodes-appendix.html
    code = str(getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None))
    if code in ("SQLITE_FULL", "53100"):
        return "The disk of the database is full."
    if code in ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03", "40P01", "40001") or isinstance(error, PoolTimeout):
        return "The database is busy."
    if code.startswith("SQLITE_READONLY") or code == READ_ONLY_SQLSTATE:
        return "The database is read-only."
    if code.startswith("SQLITE_CANTOPEN"):
        return "The database cannot be opened: its file is missing or cannot be written to."
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return "The database's file is damaged, or no SQLite database."
    if code.startswith("SQLITE_IOERR"):
        return "The database's disk cannot be read or written."
    if code in ("42P01", "42703") or "no such " in str(original):
        return "The database's tables are missing or too old (digitlab migrate)."
    return "The database does not answer."


def describe_failure(error: SQLAlchemyError) -> str:
    """Explain the failure for a log: on one line, with the database's own message."""
    original = str(getattr(error, "orig", None) or error)
    return f"{explain_failure(error)} ({type(error).__name__}: {' '.join(original.split())})"
