"""The service ignores files of the folder it is started in, and environment variables of other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, free_port, wait_for

BREAKS = "raise SystemExit('a file of the user was imported')\n"
MODULES = (
    "random.py",
    "torch.py",
    "numpy.py",
    "multiprocessing.py",
    "logging.py",
    "app/__init__.py",
    "workers/__init__.py",
)
VARIABLES = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "NUMBA_DISABLE_JIT": "1",
    "PROMETHEUS_MULTIPROC_DIR": "/nonexistent",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The worst folder that a user might start the service in."""
    folder = tmp_path / "what?x=1 50%20 ü"
    for name in MODULES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(BREAKS)
    (folder / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nbackend: nonsense\n")
    return folder


def test_files_and_variables_of_others_change_nothing(folder: Path) -> None:
    port = str(free_port())
    environment = {**os.environ, **VARIABLES, "DIGITLAB_PORT": port, "DIGITLAB_DATA_DIR": str(folder / "data")}
    command = Path(sys.executable).with_name("digitlab")
    if not command.exists():
        pytest.skip("digitlab is not installed beside this Python")
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([command, "up"], cwd=folder, env=environment, stderr=log)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            (run,) = client.get("/runs").json()["data"]
            wait_for(lambda: client.get(f"/runs/{run['id']}").json()["status"] == "succeeded")
            picture = client.get("/datasets/digits/samples.png")
            assert picture.status_code == 200, picture.text
            assert "digitlab_runs" in client.get("/metrics").text
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        print(log_file.read_text())
    assert (folder / "data" / "digitlab.db").stat().st_size > 0
    assert "Traceback" not in log_file.read_text()
    assert "ended (exit code" not in log_file.read_text()
