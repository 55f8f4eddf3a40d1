"""`digitlab up` unattended: its terminal is closed, its output has no reader, or it is killed itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, children_of, free_port, has_ended, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@dataclass
class Up:
    process: subprocess.Popen[bytes]
    client: httpx2.Client

    @property
    def parts(self) -> list[int]:
        return children_of(self.process.pid)

    def wait_until_live(self) -> None:
        wait_for(lambda: self.client.get("/health/live").is_success and len(self.parts) == 2)


@pytest.fixture
def hangup() -> signal.Handlers:
    """The handler of SIGHUP that `up` inherits."""
    return signal.SIG_DFL


@pytest.fixture
def running(tmp_path: Path, hangup: signal.Handlers) -> Iterator[Up]:
    port = str(free_port())
    environment = {**os.environ, "DIGITLAB_PORT": port, "DIGITLAB_DATA_DIR": str(tmp_path)}
    before = signal.signal(signal.SIGHUP, hangup)
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "up", "--no-starter-run"], env=environment, stderr=subprocess.PIPE
    )
    signal.signal(signal.SIGHUP, before)
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        up = Up(process, client)
        wait_for(lambda: client.get("/health/live").is_success)
        parts = up.parts
        try:
            yield up
        finally:
            assert process.stderr is not None
            process.stderr.close()
            process.kill()
            process.wait()
            for pid in parts:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_parts_come_back_without_a_terminal_and_end_with_a_killed_up(running: Up) -> None:
    assert running.process.stderr is not None
    running.process.stderr.close()  # all further output of `up` fails
    api, worker = running.parts
    for expected in (1, 2):
        os.kill(api, signal.SIGKILL)
        wait_for(lambda: api not in running.parts and len(running.parts) == 2)  # noqa: B023
        running.wait_until_live()
        (api,) = set(running.parts) - {worker}
        health = running.client.get("/health/ready")
        assert health.status_code == 503, "there is no model"
        assert f"number of restarts: {expected}." in health.json()["detail"]
    parts = running.parts
    running.process.kill()
    wait_for(lambda: all(has_ended(pid) for pid in parts))


def test_a_closed_terminal_stops_everything_cleanly(running: Up) -> None:
    parts = running.parts
    running.process.send_signal(signal.SIGHUP)
    assert running.process.wait(PATIENCE_SECONDS) == 0
    assert all(has_ended(pid) for pid in parts)


@pytest.mark.parametrize("hangup", [signal.SIG_IGN])
def test_under_nohup_it_stays(running: Up) -> None:
    running.process.send_signal(signal.SIGHUP)
    api = running.parts[0]
    os.kill(api, signal.SIGKILL)
    wait_for(lambda: api not in running.parts and len(running.parts) == 2)
    running.wait_until_live()
    assert running.process.poll() is None
