"""Deletion marks runs and sweeps, which hides them at once; their rows go in small steps, and the file shrinks."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner

from alembic import command
from app.cli import cli
from app.database import Database, migration_config
from app.database import engine as database_module
from app.runs import repository
from app.settings import Settings
from app.tables import (
    Checkpoint,
    Evaluation,
    Event,
    EventType,
    Metric,
    Run,
    RunStatus,
    SavedModel,
    Sweep,
    Table,
)
from tests.app.sweeps.test_sweeps import finish, runs_of, submit
from tests.conftest import AddModel, AddRun, TestClient
from workers.housekeeping import Housekeeping

CURVES = ("train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy", "val_loss", "val_accuracy")
NEWS = ("deleted", "sweep_deleted", "promoted")  # what a deletion adds
LISTS = ("/runs", "/sweeps", "/models", "/events", "/workers", "/runs?sort=val_accuracy", "/runs?status=succeeded")


def fill(database: Database, run_id: str, num_metrics: int = 30) -> None:
    with database.writing() as session:
        for epoch in range(1, num_metrics + 1):
            session.add(Metric(run_id=run_id, epoch=epoch, seconds=1.0, **dict.fromkeys(CURVES, 0.5)))
        session.add(Checkpoint(run_id=run_id, role="best", epoch=1, blob=b"x", sha256="", size_bytes=1))
        session.add(Evaluation(run_id=run_id, split="val", probabilities=b"x", sha256=""))


def count(database: Database, *tables: type[Table]) -> list[int | None]:
    with database.reading() as session:
        counting = (select(func.count()).select_from(table.__table__) for table in tables)
        return [session.scalar(each) for each in counting]


def visible(client: TestClient) -> dict[str, Any]:
    """Return all responses that name or count runs or sweeps."""
    seen: dict[str, Any] = {path: client.get(path).json()["data"] for path in LISTS}
    seen["events"] = [event for event in seen.pop("/events") if event["type"] not in NEWS]
    seen["champion"] = client.get("/models/champion").json()["model"]["run_id"]
    seen["gauges"] = [line for line in client.get("/metrics").text.splitlines() if line.startswith("digitlab_runs{")]
    return seen


def add_sweep(client: TestClient, database: Database, **headers: str) -> str:
    sweep_id: str = submit(client, {"parameters": {"seed": [1, 2]}}, headers=headers)["id"]
    for run in runs_of(database, sweep_id):
        fill(database, run.id)
        finish(database, run.id, val_accuracy=0.99)
    return sweep_id


def test_what_is_marked_shows_nowhere_and_goes_bit_by_bit(
    client: TestClient, database: Database, add_model: AddModel
) -> None:
    kept = add_model(0.6)
    before = visible(client)
    single = add_model(0.9)
    fill(database, single)
    sweep_id = add_sweep(client, database, **{"Idempotency-Key": "again"})
    trials = [run.id for run in runs_of(database, sweep_id)]
    assert visible(client)["champion"] in trials
    assert client.delete(f"/sweeps/{sweep_id}").status_code == 204
    assert client.delete(f"/runs/{single}").status_code == 204

    assert count(database, Metric, SavedModel, Run, Sweep) == [90, 4, 4, 1]  # no row has been deleted yet
    assert visible(client) == before
    assert before["champion"] == kept
    for run_id in (single, *trials):
        for path in ("", "/metrics", "/checkpoints/best", "/model.onnx", "/summary", "/events", "/events/stream"):
            assert client.get(f"/runs/{run_id}{path}").status_code == 404, path
        assert client.post("/runs?dry_run=true", json={"from_run": run_id}).status_code == 404
        assert client.put("/models/champion", json={"run_id": run_id}).status_code == 404
        assert client.get(f"/events?run_id={run_id}").json()["data"][0]["type"] == "deleted"
    for path in ("", "/report", "/report.png"):
        assert client.get(f"/sweeps/{sweep_id}{path}").status_code == 404
    assert client.post(f"/sweeps/{sweep_id}/cancel").status_code == 404
    assert client.post("/models/champion/rollback").status_code == 409  # all earlier champions are deleted
    again = submit(client, {"parameters": {"seed": [1, 2]}}, headers={"Idempotency-Key": "again"})
    assert again["id"] != sweep_id

    numbers: list[int] = []
    while numbers[-1:] != [0]:  # each step is one transaction; another process could continue after a crash
        with database.writing() as session:
            numbers.append(repository.purge_deleted(session, 25))
    assert max(numbers) <= 25 + 2 * repository.ROWS_A_BLOB
    assert len(numbers) > 6
    assert count(database, Metric, SavedModel, Run, Sweep) == [0, 1, 3, 1]
    assert count(database, Checkpoint, Evaluation) == [0, 0]
    with database.reading() as session:
        of_deleted = select(Event.type).where(Event.run_id.in_([single, *trials]))
        assert set(session.scalars(of_deleted)) == {EventType.DELETED}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_housekeeping_deletes_what_is_marked_and_the_file_shrinks(
    settings: Settings, database: Database, client: TestClient, add_run: AddRun
) -> None:
    run_id = add_run(status=RunStatus.FAILED)
    fill(database, run_id, 20_000)
    with database.reading() as session:
        pages = session.scalar(text("PRAGMA page_count"))
    client.delete(f"/runs/{run_id}")
    keeping = Housekeeping(database, settings)
    for _ in range(60):
        keeping.clean_if_due()
    assert count(database, Metric, Run) == [0, 0]
    with database.reading() as session:
        assert session.scalar(text("PRAGMA freelist_count")) <= database_module.KEPT_FREE_PAGES
        assert session.scalar(text("PRAGMA page_count")) < pages - 200
        assert session.scalar(text("PRAGMA journal_size_limit")) == database_module.MAX_IDLE_WAL_BYTES


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_file_of_before_is_made_to_shrink_by_vacuum(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.close()
    file = Path(database.url.database or "")
    for statement in ("PRAGMA auto_vacuum=NONE", "VACUUM", "CREATE TABLE filler (x)", "DROP TABLE filler"):
        connection = sqlite3.connect(file, isolation_level=None)
        if statement == "VACUUM":
            connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute(statement).fetchall()
        connection.close()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    connection.close()
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(settings.data_dir))
    result = CliRunner().invoke(cli, ["vacuum"])
    assert (result.exit_code, "bytes before" in result.output) == (0, True)
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (database_module.INCREMENTAL,)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_long_hold_of_the_write_lock_is_logged_with_its_statement(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database_module, "LONG_LOCK_SECONDS", 0.0)
    with caplog.at_level(logging.INFO), database.writing() as session:
        session.execute(text("UPDATE event_counter SET last_event_id = last_event_id"))
    assert "write lock was held" in caplog.text
    assert "UPDATE event_counter" in caplog.text


def test_downgrading_finishes_deletions_and_leaves_trials_as_ordinary_runs(
    database: Database, client: TestClient
) -> None:
    deleted, kept = add_sweep(client, database), add_sweep(client, database)
    client.delete(f"/sweeps/{deleted}")
    config = migration_config(database)
    command.downgrade(config, "0005")
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM runs")) == 2
        assert session.scalar(text("SELECT count(*) FROM sweeps")) == 1
        assert session.scalar(text("SELECT count(*) FROM metrics")) == 60
    command.downgrade(config, "0003")
    command.upgrade(config, "head")
    runs = client.get("/runs").json()["data"]
    assert [run["sweep_id"] for run in runs] == [None, None]
    assert client.get("/runs", params={"sweep_id": kept}).json()["data"] == []
    assert [client.delete(f"/runs/{run['id']}").status_code for run in runs] == [204, 204]
    assert client.get("/runs").json()["data"] == []
