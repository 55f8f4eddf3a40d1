"""An API process and a worker process over one SQLite file, as `digitlab api` and `digitlab worker` start them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.database import Database, migrate
from app.settings import Settings

PATIENCE_SECONDS = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Until it is true; returns what it then is."""
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
    """A running API, and a worker once it is asked for."""

    client: httpx2.Client
    environment: dict[str, str]
    api: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self, **settings: str) -> subprocess.Popen[bytes]:
        worker = _start("-m", "workers", environment=self.environment | settings)
        self.workers.append(worker)
        return worker

    def submit(self, document: Mapping[str, Any]) -> str:
        response = self.client.post("/runs", json=dict(document))
        assert response.status_code == 202, response.text
        run_id: str = response.json()["id"]
        return run_id

    def get(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.client.get(f"/runs/{run_id}").json()
        return run

    def finish(self, run_id: str) -> dict[str, Any]:
        """Wait for a run's end."""

        def finished() -> dict[str, Any] | None:
            run = self.get(run_id)
            return run if run["status"] in ("succeeded", "failed", "cancelled") else None

        run: dict[str, Any] = wait_for(finished)
        return run

    def stop(self) -> None:
        """As an operator does; everything ends cleanly."""
        for process in (*self.workers, self.api):
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in self.workers] == [0] * len(self.workers)
        self.api.wait(60)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    database = Database(Settings(data_dir=tmp_path).resolved_database_url)
    migrate(database)
    database.close()
    port = str(free_port())
    environment = {**os.environ, "DIGITLAB_DATA_DIR": str(tmp_path), "DIGITLAB_DEVICE": "cpu"}
    api = _start("-m", "app.cli", "api", "--port", port, environment=environment)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        running = Processes(client, environment, api)
        try:
            wait_for(lambda: client.get("/health/live").is_success)
            yield running
        finally:
            for process in (*running.workers, api):
                if process.poll() is None:
                    process.kill()
                    process.wait()


def _start(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *command], env=environment)
