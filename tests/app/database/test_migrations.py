"""The migrations and the tables that they create."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Dialect, String, TypeDecorator, bindparam, text

from alembic import command
from app.database import NEWEST_REVISION, Database, database_now, migrate, migration_config
from app.database.engine import _set_pragmas
from app.main import create_app
from app.settings import Settings
from tests.conftest import AddModel, TestClient


def test_the_newest_revision_is_the_migrations_head(database: Database) -> None:
    assert ScriptDirectory.from_config(migration_config(database)).get_current_head() == NEWEST_REVISION


def test_migrating_twice_changes_nothing(database: Database) -> None:
    migrate(database)
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_the_migrations_make_the_tables_as_they_are_declared(database: Database) -> None:
    command.check(migration_config(database))  # raises an error that lists the differences


def test_promotions_of_earlier_versions_get_the_names_of_their_runs(
    database: Database, client: TestClient, add_model: AddModel
) -> None:
    kept, deleted, gone = add_model(0.8), add_model(0.9), add_model(0.95)
    for run_id, name in ((kept, "kept"), (deleted, "deleted"), (gone, "gone")):
        assert client.patch(f"/runs/{run_id}", json={"name": name}).status_code == 200
    for run_id in (gone, deleted):
        assert client.delete(f"/runs/{run_id}").status_code == 204
    with database.writing() as session:  # the rows of one run are deleted already, those of the other are marked only
        session.execute(text("DELETE FROM saved_models WHERE run_id = :id").bindparams(id=gone))
        session.execute(text("DELETE FROM runs WHERE id = :id").bindparams(id=gone))
    command.downgrade(migration_config(database), "0008")
    migrate(database)
    told = {step["run_id"]: step for step in client.get("/models/champion").json()["history"]}
    values = {run_id: (told[run_id]["name"], told[run_id]["val_accuracy"]) for run_id in (kept, deleted, gone)}
    assert values == {kept: ("kept", 0.8), deleted: ("deleted", 0.9), gone: (None, None)}
    assert [told[run_id]["num_parameters"] for run_id in (kept, deleted, gone)] == [610, 610, None]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_sqlite_runs_in_wal_with_foreign_keys(database: Database) -> None:
    with database.reading() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_the_databases_clock_tells_this_century(database: Database) -> None:
    with database.reading() as session:
        now = session.scalar(database_now().select())
    assert now is not None
    assert 1.7e9 < now < 4.1e9


def test_without_a_migration_readiness_says_what_to_run(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        response = client.get("/health/ready")
        runs = client.get("/runs")
    assert response.status_code == 503
    assert "digitlab migrate" in response.json()["detail"]
    assert runs.json()["type"] == "/problems/database-unavailable"


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_opening_the_file_waits_for_no_writer(database: Database) -> None:
    opened = sqlite3.connect(str(database.url.database), timeout=0)
    with database.writing() as session, closing(opened) as connection:
        session.execute(text("SELECT 1"))  # begins the transaction
        _set_pragmas(connection, None)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


class Interrupted(TypeDecorator[str]):
    """A value whose conversion raises KeyboardInterrupt, as Ctrl-C at that moment does."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str:  # noqa: ARG002, SQLAlchemy's name
        raise KeyboardInterrupt


def test_ctrl_c_in_a_statement_stays_what_it_is_and_releases_the_lock(database: Database) -> None:
    statement = text("SELECT :value").bindparams(bindparam("value", "", Interrupted))
    with pytest.raises(KeyboardInterrupt), database.writing() as session:
        session.execute(statement)
    with database.writing() as session:
        assert session.scalar(text("SELECT count(*) FROM runs")) == 0


OLD_ROWS = (
    "INSERT INTO runs (id, name, notes, tags, model_kind, config, config_version, device, seed, epochs, status,"
    " priority, claim_number, crashes_without_progress, cancel_requested, pause_requested, epoch, training_seconds,"
    " created_at)"
    " VALUES ('{0}', '', '', '{{}}', 'mlp', '{{}}', 1, 'auto', 0, 1, 'succeeded', 0, 1, 0, false, false, 1, 0.5,"
    " '2026-11-26 00:00:00')",
    "INSERT INTO saved_models (run_id, epoch, onnx, sha256, size_bytes, num_parameters, train_accuracy, val_accuracy,"
    " val_loss, on_canonical_split, created_at) VALUES ('{0}', 1, '', '', 0, 610, 1.0, {1}, 0.1, true,"
    " '2026-11-26 00:00:00')",
)


@pytest.mark.usefixtures("database")
def test_models_of_earlier_versions_keep_their_data_and_the_champion(settings: Settings, database: Database) -> None:
    config = migration_config(database)
    command.downgrade(config, "0008")
    with database.writing() as session:
        for run_id, accuracy in (("a", 0.9), ("b", 0.95)):
            for statement in OLD_ROWS:
                session.execute(text(statement.format(run_id, accuracy)))
        session.execute(
            text("INSERT INTO promotions (run_id, reason, created_at) VALUES ('b', 'automatic', '2026-11-26 00:00:00')")
        )
    migrate(database)
    with TestClient(create_app(settings)) as client:
        assert client.get("/models/ranking").json()["by"] == "shifted"
        models = client.get("/models").json()["data"]
        assert [(model["run_id"], model["val_accuracy"]) for model in models] == [("b", 0.95), ("a", 0.9)]
        assert all(model["shifted_accuracy"] is None and model["sure_confidence"] is None for model in models)
        champion = client.get("/models/champion").json()
        assert champion["model"]["run_id"] == "b"
        assert "has none yet" in champion["why"]
    command.downgrade(config, "0008")
    with database.reading() as session:
        assert session.scalars(text("SELECT run_id FROM saved_models ORDER BY run_id")).all() == ["a", "b"]
