"""Alembic's entry point: `digitlab migrate`, or `alembic check` and `alembic revision` from a checkout."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Engine, text

from alembic import context
from app.database import Database, UtcDateTime
from app.settings import Settings
from app.tables import Table

MIGRATION_LOCK = 0x64696769746C6162  # any fixed number; Postgres processes that migrate take turns by this lock


def render_item(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write plain column types into migrations, so that they keep working when the application's types change."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run_migrations(engine: Engine) -> None:
    with engine.execution_options(writes=True).connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.configure(
            connection=connection,
            target_metadata=Table.metadata,
            render_as_batch=True,
            render_item=render_item,
            transactional_ddl=True,
        )
        context.run_migrations()


given: Engine | None = context.config.attributes.get("engine")
if given is not None:
    run_migrations(given)
else:
    database = Database(Settings().resolved_database_url)
    run_migrations(database.engine)
    database.close()
