"""The commands that the Docker images run, tested without a Docker engine, which may be missing."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.cli import cli
from app.database import Database
from app.http.server import check_address
from app.settings import Settings
from app.worker_registry.repository import WorkerInfo, beat
from workers import probe

DOCKER = Path(__file__).parents[2] / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]


def commands() -> list[list[str]]:
    found = [json.loads(command) for file in FILES for command in instructions(file, "CMD")]
    return found + [service["command"] for service in COMPOSE.values() if "command" in service]


def instructions(file: Path, name: str) -> list[str]:
    """Return the arguments of every such instruction, with continued lines joined."""
    return re.findall(rf"^{name} (.*)$", file.read_text().replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_container_runs_a_command_that_exists(command: list[str]) -> None:
    program, *arguments = command
    assert program == "digitlab"
    result = CliRunner().invoke(cli, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def test_all_three_commands_are_covered() -> None:
    assert sorted(command[1] for command in commands()) == ["api", "migrate", "worker"]


def test_both_images_have_one_pinned_base_and_an_ordinary_user() -> None:
    bases = {base for file in FILES for base in instructions(file, "FROM")}
    assert len(bases) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", bases.pop())
    for file in FILES:
        assert instructions(file, "USER") == ["10001:10001"]
        (user,) = (each for each in instructions(file, "RUN") if "useradd" in each)
        assert "groupadd --gid 10001 digitlab" in user
        assert "useradd --uid 10001 --gid digitlab" in user
        assert "install -d -o digitlab -g digitlab /data" in user
        text = file.read_text()
        assert text.index("pip install") < text.index("useradd") < text.index("USER") < text.index("CMD [")


def test_compose_hands_a_volume_of_root_over_first() -> None:
    first = COMPOSE["ownership"]
    assert (first["user"], first["entrypoint"]) == ("root", ["chown", "-R", "digitlab:digitlab", "/data"])
    assert COMPOSE["migrate"]["depends_on"] == {"ownership": {"condition": "service_completed_successfully"}}
    for name in ("api", "worker"):
        assert "user" not in COMPOSE[name]
        assert COMPOSE[name]["volumes"] == first["volumes"] == COMPOSE["migrate"]["volumes"]
        assert COMPOSE[name]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_the_api_listens_beyond_loopback_with_keys_or_where_compose_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = (command for command in commands() if command[1] == "api")
    monkeypatch.delenv("DIGITLAB_API_KEYS", raising=False)
    monkeypatch.delenv("DIGITLAB_ALLOW_UNAUTHENTICATED", raising=False)
    refused = CliRunner().invoke(cli, command[1:])
    assert refused.exit_code == 2
    assert "DIGITLAB_API_KEYS" in refused.output
    host = command[command.index("--host") + 1]
    with pytest.raises(typer.Exit):
        check_address(Settings(host=host), print)
    monkeypatch.setenv("DIGITLAB_API_KEYS", "admin:" + 32 * "k")
    check_address(Settings(host=host), print)
    for name, value in COMPOSE["api"]["environment"].items():
        monkeypatch.setenv(name, value.replace("${DIGITLAB_API_KEYS:-}", ""))
    settings = Settings(host=host)
    check_address(settings, print)
    assert not settings.keys
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["api"]["ports"])
    assert "ports" not in COMPOSE["worker"]


class Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health/live" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("DIGITLAB_PORT", str(server.server_port))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def health_command(name: str) -> list[str]:
    (check,) = instructions(DOCKER / f"{name}.Dockerfile", "HEALTHCHECK")
    program, *arguments = json.loads(check[check.index("[") :])
    assert program == "python"
    return [sys.executable, *arguments]


@pytest.mark.usefixtures("port")
def test_the_apis_health_check_asks_whether_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert subprocess.run(health_command("api"), check=False).returncode == 0
    monkeypatch.setattr(Health, "status", 503)
    assert subprocess.run(health_command("api"), check=False).returncode == 1
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DIGITLAB_PORT", str(nobody.getsockname()[1]))
        ended = subprocess.run(health_command("api"), check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_workers_health_check_asks_for_its_heartbeat(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health_command("worker")[1:] == ["-P", "-m", "workers.probe"]
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DIGITLAB_DATABASE_URL", settings.database_url)
    assert probe.main() == 1
    with database.writing() as session:
        beat(session, WorkerInfo("other", "another machine", 1))
    assert probe.main() == 1
    with database.writing() as session:
        beat(session, WorkerInfo("here", socket.gethostname(), 1))
    assert probe.main() == 0


def test_a_health_check_without_a_database_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(tmp_path / "missing"))
    monkeypatch.setenv("DIGITLAB_DATABASE_URL", "")
    assert probe.main() == 1
    assert capsys.readouterr().err
