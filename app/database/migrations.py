"""Where the migrations lie, and how the database is brought to the newest one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.database.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST_REVISION = "0008"  # of the migrations; readiness compares the database with it, and a test it with them


def current_revision(session: Session) -> str | None:
    """The migration that the database is at.

    Raises:
        DBAPIError: The database does not answer, or has never been migrated.
    """
    revision: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def migrations_folder() -> Path:
    """Inside the wheel the migrations lie in the package; in a checkout they are the folder `alembic`."""
    packaged = Path(__file__).parents[1] / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"


def migration_config(database: Database) -> Config:
    from alembic.config import Config  # here, since the API has no other use for alembic and its 12 MB

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> None:
    """Bring the schema to the newest revision. Safe to repeat, and from several processes at once."""
    from alembic import command

    command.upgrade(migration_config(database), "head")
