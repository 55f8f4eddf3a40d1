"""`/docs` in a real browser that can reach only the service."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.browser import need_browser
from tests.e2e.conftest import Processes

# The browser can resolve no other name, as without internet.
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=20000")
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def test_a_browser_without_internet_shows_every_operation(processes: Processes, tmp_path: Path) -> None:
    document = processes.client.get("/openapi.json").json()
    expected = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    picture = tmp_path / "docs.png"
    command = [need_browser(), *OPTIONS, OFFLINE, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"]
    address = f"http://127.0.0.1:{processes.port}/docs"
    shown = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=True)
    methods = re.findall(r'class="opblock-summary-method">(\w+)<', shown.stdout)
    paths = re.findall(r'class="opblock-summary-path" data-path="([^"]+)"', shown.stdout)
    assert set(zip(methods, paths, strict=True)) == expected
    assert [line for line in shown.stderr.splitlines() if "CONSOLE" in line] == []
    assert len(picture.read_bytes()) > 20_000, "an empty page has 5 kB"
