"""Finds the migrations and applies them to the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST_REVISION = "0011"  # readiness compares the database with it, a test compares it with the migrations


def current_revision(session: Session) -> str | None:
    """Return the migration that the database is at.

    Raises:
        DBAPIError: The database does not respond, or has never been migrated.
    """
    revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def migrations_folder() -> Path:
    """Return the folder of migrations: inside the package in a wheel, the folder `alembic` in a checkout."""
    packaged = Path(__file__).parents[1] / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"


def migration_config(database: Database) -> Config:
    from alembic.config import Config  # imported here, since the API has no other use for alembic and its 12 MB

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Migrate the schema to the newest revision. Repeated calls are safe, from several processes at once too."""
    from alembic import command

    command.upgrade(migration_config(database), "head")
