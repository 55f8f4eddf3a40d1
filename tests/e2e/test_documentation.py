"""`/docs` in a real browser that can reach nothing but this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Processes


@pytest.fixture
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        assert "CI" not in os.environ, "CI needs Chromium"
        pytest.skip("no browser: apt-get install chromium")
    return found


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_documentation_shows_every_operation_without_internet(
    idle_processes: Processes, chromium: str, tmp_path: Path
) -> None:
    idle_processes.start_api()
    described = idle_processes.client.get("/openapi.json").json()
    num_operations = sum(len(methods) for methods in described["paths"].values())
    browser = subprocess.run(
        [
            chromium,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=20000"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={tmp_path / 'browser'}"),
            *("--enable-logging=stderr", str(idle_processes.client.base_url.join("/docs"))),
        ],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert len(re.findall(r'class="opblock opblock-\w+"', browser.stdout)) == num_operations
    assert "CONSOLE" not in browser.stderr, "no error, no warning, nothing refused by the policy"
