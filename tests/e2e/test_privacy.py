"""strace shows that no data leaves the machine, and that only the data folder and documented caches are written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, free_port, wait_for

CALLS = "bind,connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat"
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
WRITTEN = re.compile(
    r'(?:openat?|creat|mkdir|mkdirat)\((?:AT_FDCWD, |\d+[^,]*, )?"([^"]+)".*(?:O_CREAT|O_WRONLY|O_RDWR|\d{4}\) = 0$)'
)
LOOPBACK = re.compile(r"127\.|::1$|::ffff:127\.")


def is_documented(path: str, folder: Path) -> bool:
    """Return whether docs/serving.md names a path as written; device and kernel files do not count as files."""
    if path.startswith(("/dev/", "/proc/")) or "__pycache__" in path:  # Python's and Numba's caches
        return True
    resolved = Path(path).resolve()
    return any(
        resolved == allowed or allowed in resolved.parents
        for allowed in (
            folder / "data",
            folder / "tmp",
            folder / "home" / ".cache" / "matplotlib",
            folder / "home" / ".config" / "matplotlib",
            folder / "home" / ".cache" / "numba",
        )
    ) or resolved in (folder / "home" / ".cache", folder / "home" / ".config")


@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux's")
def test_nothing_leaves_and_nothing_else_is_written(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        assert "CI" not in os.environ, ".ci/run installs strace"
        pytest.skip("no strace")
    for name in ("data", "tmp", "home"):
        (tmp_path / name).mkdir()
    port = str(free_port())
    environment = {
        **os.environ,
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "DIGITLAB_DATA_DIR": str(tmp_path / "data"),
        "DIGITLAB_PORT": port,
    }
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    trace = tmp_path / "trace"
    command = ["strace", "-ff", "-qq", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)]
    process = subprocess.Popen([*command, sys.executable, "-m", "app.cli", "up"], env=environment)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_for(lambda: client.get("/health/ready").status_code == 200)
            (run,) = client.get("/runs").json()["data"]
            wait_for(lambda: client.get(f"/runs/{run['id']}").json()["status"] == "succeeded")
            assert client.post("/predict", json={"instances": [[[0] * 8] * 8]}).status_code == 200
            wait_for(lambda: client.get(f"/runs/{run['id']}/curves.png").status_code == 200)
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    lines = [line for file in tmp_path.glob("trace.*") for line in file.read_text(errors="replace").splitlines()]
    addresses = [(match[2], match[1]) for line in lines if (match := ADDRESS.search(line))]
    beyond = sorted({to for to in addresses if not LOOPBACK.match(to[0]) or to[1] == "53"})  # port 53: a local resolver
    written = {match[1] for line in lines if (match := WRITTEN.search(line)) and " = -1 " not in line}
    assert ("127.0.0.1", port) in addresses, "the trace shows where the API listens"
    assert beyond == []
    assert any(path.endswith("digitlab.db") for path in written), "the trace shows what is written"
    assert sorted(path for path in written if not is_documented(path, tmp_path)) == []
