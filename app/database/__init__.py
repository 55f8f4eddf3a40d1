"""The engine, its transactions, types and failures, and the folder of migrations. Tables and queries live elsewhere."""

from app.database.engine import (
    MAX_IDLE_WAL_BYTES,
    Database,
    before_commit,
    give_back_free_pages,
    insert_plainly,
    used_bytes,
)
from app.database.failures import DATABASE_FAILURES, describe_failure, explain_failure
from app.database.migrations import NEWEST_REVISION, current_revision, migrate, migration_config, migrations_folder
from app.database.types import UtcDateTime, database_now, to_json, utc_now

__all__ = [
    "DATABASE_FAILURES",
    "MAX_IDLE_WAL_BYTES",
    "NEWEST_REVISION",
    "Database",
    "UtcDateTime",
    "before_commit",
    "current_revision",
    "database_now",
    "describe_failure",
    "explain_failure",
    "give_back_free_pages",
    "insert_plainly",
    "migrate",
    "migration_config",
    "migrations_folder",
    "to_json",
    "used_bytes",
    "utc_now",
]
