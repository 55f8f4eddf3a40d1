"""README.md's first ten minutes, run by bash as they stand there, against a real API and a real worker."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import blocks, read, section
from tests.e2e.conftest import Processes

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_first_ten_minutes_of_the_readme(processes: Processes, tmp_path: Path) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        assert "CI" not in os.environ, ".ci/run installs curl"
        pytest.skip("no curl or no bash")
    processes.start_ready_workers(1)
    script = "\n".join(blocks(section(read("README.md"), "The first ten minutes"), "sh"))
    assert "http://127.0.0.1:8000" in script
    script = script.replace("http://127.0.0.1:8000", str(processes.client.base_url))
    folder = tmp_path / "terminal"
    folder.mkdir()

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "/problems/" not in done.stdout, "the type of a problem body"
    assert "event: succeeded" in done.stdout
    assert '"predictions":[{"digit":' in done.stdout
    assert '"fixed":' in done.stdout
    assert [(folder / name).read_bytes()[:8] for name in ("report.png", "mistakes.png")] == [PNG, PNG]
