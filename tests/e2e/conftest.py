"""API and worker processes that share a database, as `digitlab api` and `digitlab worker` start them."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.database import Database
from app.settings import Settings
from app.tables import Run, Worker
from tests.launcher import Launch, Launcher, Process

PATIENCE_SECONDS = 400  # a busy machine takes minutes for what a quiet one does in 20 s
FINAL = ("succeeded", "failed", "cancelled")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait until `what()` is true; return its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := what():
                return found
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")


@dataclass
class Processes:
    """An API and workers, each started by its own call; all log to one file."""

    client: httpx2.Client
    environment: dict[str, str]
    database: Database
    log_file: Path
    port: str
    launch: Launch
    api: Process | None = None
    workers: list[Process] = field(default_factory=list)

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def start_api(self, **settings: str) -> Process:
        api = self.api = self.start("app.cli", "api", "--port", self.port, **settings)
        wait_for(lambda: self.client.get("/health/live").is_success)
        assert api.poll() is None, "another process listens on this port"
        return api

    def restart_api(self) -> None:
        assert self.api is not None
        self.api.terminate()
        self.api.wait(60)
        self.start_api()

    def start_worker(self, **settings: str) -> Process:
        worker = self.start("workers", **settings)
        self.workers.append(worker)
        return worker

    def start_ready_workers(self, number: int, **settings: str) -> dict[str, Process]:
        """Start workers and wait until they can train at once; return them by their names."""
        for _ in range(number):
            self.start_worker(**settings)
        return self.wait_for_workers()

    def wait_for_workers(self) -> dict[str, Process]:
        """Wait until the trainers of all workers are ready; return the workers by their names."""
        return {wait_for(partial(self.worker_name, worker)): worker for worker in self.workers}

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start `python -m` with these arguments."""
        return self.launch(arguments, self.environment | settings, self.log_file)

    def worker_name(self, worker: Process) -> str | None:
        """Return a worker's name in the database, None until its trainer is ready."""
        with self.database.reading() as session:
            found = session.query(Worker.name).where(Worker.pid == worker.pid, Worker.device.is_not(None)).first()
        return found[0] if found else None

    def submit(self, document: Mapping[str, Any]) -> str:
        response = self.client.post("/runs", json=dict(document))
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        return run_id

    def get(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.client.get(f"/runs/{run_id}").json()
        return run

    def row(self, run_id: str) -> Run:
        with self.database.reading() as session:
            return session.get_one(Run, run_id)

    def finish(self, run_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a run has ended; return it."""

        def finished() -> dict[str, Any] | None:
            run = self.get(run_id)
            return run if run["status"] in FINAL else None

        run: dict[str, Any] = wait_for(finished, seconds)
        return run

    def wait_for_epoch(self, run_id: str, epoch: int) -> int:
        """Wait until more than `epoch` epochs of a run in training are committed; return how many are."""

        def progress() -> int | None:
            row = self.row(run_id)
            assert not row.status.is_finished(), f"the run is {row.status} already"
            return row.epoch if row.epoch > epoch and row.status == "running" else None

        committed: int = wait_for(progress)
        return committed

    def events(self, run_id: str) -> list[dict[str, Any]]:
        """Return all events of a run, read page by page."""
        found: list[dict[str, Any]] = []
        after: str | None = "0"
        while after is not None:
            page = self.client.get(f"/runs/{run_id}/events", params={"after": after, "limit": 1000}).json()
            found += page["data"]
            after = page["next"]
        return found

    def stop(self) -> None:
        """Stop all processes as an operator does; they must end cleanly."""
        for process in (*self.workers, self.api):
            if process is not None:
                process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in self.workers] == [0] * len(self.workers)
        if self.api is not None:
            self.api.wait(60)

    def kill(self) -> None:
        """Kill all processes that still run, including stopped ones."""
        for process in (*self.workers, self.api):
            if process is not None and process.poll() is None:
                for child in children_of(process.pid):
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def launch(launcher: Launcher) -> Launch:
    """The function that starts processes; a test module may replace it to start them without forking."""
    return launcher


@pytest.fixture
def idle_processes(settings: Settings, database: Database, tmp_path: Path, launch: Launch) -> Iterator[Processes]:
    """Processes of which none is started yet."""
    with open_processes(settings, database, tmp_path, launch) as running:
        yield running


@pytest.fixture
def processes(idle_processes: Processes) -> Processes:
    """Processes of which the API is started."""
    idle_processes.start_api()
    return idle_processes


@contextmanager
def open_processes(settings: Settings, database: Database, tmp_path: Path, launch: Launch) -> Iterator[Processes]:
    port = str(free_port())
    environment = {
        **os.environ,
        "DIGITLAB_DATA_DIR": str(settings.data_dir),
        "DIGITLAB_DATABASE_URL": settings.database_url,
        "DIGITLAB_DEVICE": "cpu",
    }
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        running = Processes(client, environment, database, tmp_path / "log", port, launch)
        try:
            yield running
        finally:
            running.kill()
            print(running.log if running.log_file.exists() else "")  # pytest shows it when the test fails
    assert not re.search(r"database is locked|Traceback|deadlock", running.log)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def find_trainer(worker_pid: int) -> int | None:
    """Return the process id of the worker's trainer, None if it has none at the moment."""
    return _find_child(worker_pid, "trainer")


def find_fork_server(worker_pid: int) -> int | None:
    return _find_child(worker_pid, "fork-server")


def _find_child(pid: int, name: str) -> int | None:
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in children_of(pid):
            if Path(f"/proc/{child}/comm").read_text().strip() == name:
                return child
    return None


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, also if its parent has not yet waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
