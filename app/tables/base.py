"""What all tables share."""

from __future__ import annotations

from enum import StrEnum

import uuid_utils
from sqlalchemy import Enum, MetaData
from sqlalchemy.orm import DeclarativeBase

# Constraints need names, by which migrations find them again.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def by_value(kinds: type[StrEnum]) -> Enum:
    """Return a column type that stores an enum's members as their values, which are plain text to the database."""
    return Enum(kinds, native_enum=False, length=16, values_callable=lambda each: [kind.value for kind in each])


def new_id() -> str:
    """Return a UUIDv7: ids sort by the time of their creation (RFC 9562, 5.7)."""
    return str(uuid_utils.uuid7())
