"""A full disk and a read-only one: errors are clear, accepted runs are stored, and the service recovers by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.database import Database, migrate
from app.settings import Settings
from tests.conftest import AssertProblem
from tests.e2e.conftest import Processes, children_of, open_processes, wait_for
from tests.launcher import Launch

DISK_BYTES = 8 * 2**20
LONG_RUN = {
    "model": {"hidden_sizes": [24, 24]},
    "training": {"batch_size": 20, "epochs": 8_000, "evaluate_every": 500},
}

NOTES = {"notes": "x" * 5000, "priority": -1}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system."""
    if sys.platform != "linux" or os.geteuid() != 0:
        assert "CI" not in os.environ, "CI runs as root"
        pytest.skip("mounting a file system takes root on Linux")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(folder: Path, *arguments: str) -> None:
    subprocess.run(["mount", *arguments, str(folder)], check=True)


@pytest.fixture
def on_disk(disk: Path, tmp_path: Path, launch: Launch) -> Iterator[Processes]:
    """Processes of which none is started yet, with the SQLite file on the small disk."""
    settings = Settings(data_dir=disk)
    database = Database(settings.resolved_database_url)
    migrate(database)
    with open_processes(settings, database, tmp_path, launch) as running:
        yield running
    database.close()


def test_a_full_disk_is_said_and_survived(on_disk: Processes, disk: Path, assert_problem: AssertProblem) -> None:
    """`digitlab up` runs, and a run is in training when the disk fills up."""
    service = on_disk.start("app.cli", "up", "--no-starter-run", "--port", on_disk.port)
    on_disk.workers.append(service)  # it is stopped like a worker
    wait_for(lambda: on_disk.client.get("/health/live").is_success)
    training = on_disk.submit(LONG_RUN)
    on_disk.wait_for_epoch(training, 0)
    _fill(disk / "filler")
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 2**19)
    accepted: list[str] = []
    response = on_disk.client.post("/runs", json=NOTES)
    while response.status_code == 202 and len(accepted) < 2000:
        accepted.append(response.json()["id"])
        response = on_disk.client.post("/runs", json=NOTES)
    problem = assert_problem(response, 503, "database-unavailable")
    assert problem["detail"] == "The disk of the database is full."
    assert int(response.headers["retry-after"]) > 0
    wait_for(lambda: "The disk of the database is full" in on_disk.log)
    time.sleep(8)  # longer than the worker's lease: the worker ends, and `up` restarts it
    assert on_disk.client.get("/health/live").status_code == 200
    assert on_disk.client.get("/runs").status_code == 200
    assert_problem(on_disk.client.post("/runs", json=NOTES), 503, "database-unavailable")
    wait_for(lambda: len(children_of(service.pid)) == 2)  # the pause before a restart grows

    (disk / "filler").unlink()
    for run_id in accepted:
        assert on_disk.client.post(f"/runs/{run_id}/cancel").status_code == 200
    assert on_disk.finish(training)["status"] == "succeeded"
    afterwards = on_disk.submit({})
    assert on_disk.finish(afterwards)["status"] == "succeeded"
    assert _all_runs(on_disk) == [afterwards, *reversed(accepted), training]
    assert accepted
    print(f"{len(accepted)} runs were accepted before the disk was full")
    on_disk.stop()


def _fill(file: Path) -> None:
    """Write until the disk is full to the last byte."""
    with file.open("wb", buffering=0) as filler:
        for size in (2**16, 1):
            try:
                while True:
                    filler.write(b"x" * size)
            except OSError:
                pass


def _all_runs(processes: Processes) -> list[str]:
    """Return the ids of all runs, newest first."""
    found: list[str] = []
    params: dict[str, Any] = {"limit": 200}
    while True:
        page = processes.client.get("/runs", params=params).json()
        found += [run["id"] for run in page["data"]]
        if not page["has_more"]:
            return found
        params["after"] = page["next"]


def test_a_read_only_disk_is_said_and_waited_for(on_disk: Processes, disk: Path, assert_problem: AssertProblem) -> None:
    on_disk.database.close()
    mount(disk, "-o", "remount,ro")
    on_disk.start_api()
    worker = on_disk.start_worker()
    response = on_disk.client.post("/runs", json={})
    problem = assert_problem(response, 503, "database-unavailable")
    print(problem["detail"])
    assert "read-only" in problem["detail"] or "cannot be written to" in problem["detail"]
    assert_problem(on_disk.client.get("/health/ready"), 503, "not-ready")
    wait_for(lambda: "Waiting: The database" in on_disk.log)
    assert worker.poll() is None

    mount(disk, "-o", "remount,rw")
    assert on_disk.client.get("/runs").json()["data"] == []
    assert on_disk.finish(on_disk.submit({}))["status"] == "succeeded"
    on_disk.stop()


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_a_read_only_postgres_is_said_and_waited_for(idle_processes: Processes, assert_problem: AssertProblem) -> None:
    """Postgres is read-only while a standby is being promoted, for example."""
    processes = idle_processes
    database = f"ALTER DATABASE {processes.database.url.database}"
    with processes.database.engine.connect() as connection:
        connection.exec_driver_sql(f"{database} SET default_transaction_read_only = on")
        connection.commit()
        processes.start_api()
        worker = processes.start_worker()
        problem = assert_problem(processes.client.post("/runs", json={}), 503, "database-unavailable")
        assert problem["detail"] == "The database is read-only."
        assert processes.client.get("/runs").json()["data"] == []
        wait_for(lambda: "Waiting: The database is read-only" in processes.log)
        assert worker.poll() is None
        connection.exec_driver_sql(f"{database} RESET default_transaction_read_only")
        connection.commit()
    wait_for(lambda: processes.client.post("/runs", json={}).status_code == 202)
    (run,) = processes.client.get("/runs").json()["data"]
    assert processes.finish(run["id"])["status"] == "succeeded"
    processes.stop()
