"""`Idempotency-Key`: the same key and body get the same run or sweep, however often a client sends them.

See the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import FieldError, InvalidInput, MalformedBody
from app.tables import Run, Sweep

Submitted = TypeVar("Submitted", Run, Sweep)
Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Idempotency:
    """What makes a submission safe to repeat: the client's key, and the digest of the body that came with it."""

    key: str
    submission_sha256: str

    @classmethod
    def of(cls, key: str | None, document: Mapping[str, Any]) -> Idempotency | None:
        """Hash a request's body; the order of its fields and its white space make no difference."""
        if key is None:
            return None
        try:
            text = json.dumps(document, sort_keys=True)
        except RecursionError:
            raise MalformedBody("The body is nested too deeply.") from None
        return cls(key, sha256(text.encode()).hexdigest())


def submit_once(
    database: Database,
    table: type[Submitted],
    idempotency: Idempotency | None,
    *,
    prepare: Callable[[Session], Prepared],
    enqueue: Callable[[Session, Prepared], Submitted],
) -> Submitted:
    """Return the row that was submitted with this key before, or a new one.

    Args:
        database: Receives the row.
        table: Of the row: `Run` or `Sweep`.
        idempotency: The client's key and body; None: the client sent no key, and each submission makes a new row.
        prepare: Does everything that takes long, while no other transaction waits.
        enqueue: Writes what was prepared; it holds the write lock.

    Raises:
        InvalidInput: The key came with another body before.
    """
    with database.reading() as session:
        found = find_submitted(session, table, idempotency)
        if found is not None:
            return found
        prepared = prepare(session)
    with database.writing() as session:
        return find_submitted(session, table, idempotency) or enqueue(session, prepared)


def find_submitted(session: Session, table: type[Submitted], idempotency: Idempotency | None) -> Submitted | None:
    """Return the row that was submitted with this key before; None if there is none.

    Raises:
        InvalidInput: The key came with another body then.
    """
    if idempotency is None:
        return None
    row = session.scalar(select(table).where(table.idempotency_key == idempotency.key))
    if row is not None and row.submission_sha256 != idempotency.submission_sha256:
        name = f"{table.__name__.lower()} {row.id}"
        detail = f"This Idempotency-Key came with another body before, for {name}. Choose a new one."
        place = FieldError("header: idempotency-key", detail)
        raise InvalidInput(detail, slug="idempotency-key-reused", errors=[place])
    return row


def insert_once(session: Session, row: Submitted, idempotency: Idempotency | None) -> Submitted:
    """Insert a row with its key and return it; or return the row of a concurrent transaction with that key (Postgres).

    Raises:
        InvalidInput: The key came with another body there.
    """
    if idempotency is not None:
        row.idempotency_key, row.submission_sha256 = idempotency.key, idempotency.submission_sha256
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        other = find_submitted(session, type(row), idempotency)
        if other is None:
            raise
        return other
    return row
