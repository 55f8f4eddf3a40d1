"""Shell commands of README.md and docs/, run by bash as they stand there, against a real API and a real worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, read, section
from tests.e2e.conftest import Processes

PNG = b"\x89PNG\r\n\x1a\n"
PAGES = ("docs/api.md", "docs/pictures.md", "docs/serving.md", "docs/notebook.md", "docs/sweeps.md")
DRAWING = Path("docs/pictures/three.png")
EXPECTED_PROBLEMS = {"sweep-finished"}  # of the last command of docs/sweeps.md, if the sweep was quicker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        assert "CI" not in os.environ, ".ci/run installs curl"
        pytest.skip("no curl or no bash")
    folder = tmp_path / "terminal"
    (folder / DRAWING.parent).mkdir(parents=True)
    for name in (DRAWING, "digit.png", "photo.jpg"):  # as in a clone, and files that the pages name
        shutil.copy(ROOT / DRAWING, folder / name)
    return folder


def run_script(processes: Processes, folder: Path, script: str) -> str:
    """Run a script that names the API's default address; return its standard output."""
    assert "http://127.0.0.1:8000" in script
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8000", str(processes.client.base_url))],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        errors="replace",  # a response of bytes
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def problems_in(output: str) -> set[str]:
    return set(re.findall(r"/problems/([a-z-]+)", output))


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_first_ten_minutes_of_the_readme(processes: Processes, folder: Path) -> None:
    processes.start_ready_workers(1)
    script = "\n".join(blocks(section(read("README.md"), "The first ten minutes"), "sh"))
    output = run_script(processes, folder, script)
    assert not problems_in(output)
    assert "event: succeeded" in output
    assert len(re.findall(r'"predictions":\[{"digit":', output)) == 2
    assert '"pixels":[[' in output
    assert '"fixed":' in output
    assert [(folder / name).read_bytes()[:8] for name in ("report.png", "mistakes.png")] == [PNG, PNG]


def curl_blocks(page: str, run_ids: tuple[str, str]) -> Iterator[str]:
    """The blocks of a page that use curl, without `digitlab` commands, whose names and options `tests/docs` checks."""
    for block in blocks(read(page), "sh"):
        if "curl" in block:
            lines = [line for line in block.splitlines() if not line.startswith(".venv/bin/digitlab")]
            script = "\n".join(lines).replace("FINAL_RUN_ID", run_ids[0])
            yield script.replace("RUN1", run_ids[0]).replace("RUN2", run_ids[1])


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_the_commands_of_the_other_pages(processes: Processes, folder: Path) -> None:
    processes.start_ready_workers(1)
    ids = {processes.submit({"preset": "dropout-tanh", "training": {"epochs": 20}, "seed": seed}) for seed in (0, 1)}
    assert all(processes.finish(each)["status"] == "succeeded" for each in ids)
    champion_id = processes.client.get("/models/champion").json()["model"]["run_id"]
    (run_id,) = ids - {champion_id}  # docs/serving.md pins it, and then goes back to the champion before it
    for page in PAGES:
        for script in curl_blocks(page, (run_id, champion_id)):
            output = run_script(processes, folder, f"id={run_id}\n{script}")
            assert problems_in(output) <= EXPECTED_PROBLEMS, page
    assert (folder / "digits").read_bytes() != b""
    assert len((folder / "pixels").read_bytes()) == 64
    assert [(folder / name).read_bytes()[:8] for name in ("curves.png", "gradients.png", "dozen.png")] == [PNG] * 3
