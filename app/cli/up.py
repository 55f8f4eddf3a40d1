"""`digitlab up`: one API and one worker, restarted when one dies, stopped together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import typer
from sqlalchemy.exc import SQLAlchemyError

from app.cli.server import check_address
from app.database import Database, migrate
from app.runs import repository, service
from app.settings import Settings

STARTER_RUN = {"preset": "dropout-tanh", "name": "starter run", "training": {"epochs": 400}}
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
RESTART_SECONDS = 1.0
QUICK_DEATH_SECONDS = 10.0
MAX_QUICK_DEATHS = 5


@dataclass
class Part:
    """A process that is to be kept running."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes]
    started_at: float
    quick_deaths: int = 0

    @classmethod
    def start(cls, name: str, module: str, *arguments: str) -> Part:
        command = [sys.executable, "-m", module, *arguments]
        return cls(name, command, _spawn(command), time.monotonic())

    def restart(self) -> bool:
        """Start it anew after its death; False when it keeps dying right after its start."""
        is_quick = time.monotonic() - self.started_at < QUICK_DEATH_SECONDS
        self.quick_deaths = self.quick_deaths + 1 if is_quick else 0
        if self.quick_deaths >= MAX_QUICK_DEATHS:
            return False
        typer.secho(f"The {self.name} ended (exit code {self.process.returncode}); starting it again.", err=True)
        time.sleep(RESTART_SECONDS)
        self.process, self.started_at = _spawn(self.command), time.monotonic()
        return True

    def end(self, deadline: float) -> None:
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Stopped(BaseException):
    """SIGINT or SIGTERM has come."""


def run_service(settings: Settings, *, starter_run: bool) -> int:
    """Run everything until SIGINT or SIGTERM; returns the exit code."""
    check_address(settings)
    if not _is_port_free(settings):
        typer.secho(f"Something listens on {settings.host}:{settings.port} already; choose another --port.", err=True)
        return 1
    try:
        _prepare_database(settings, starter_run=starter_run)
    except SQLAlchemyError as error:
        typer.secho(f"The database cannot be used: {error}", err=True, fg="red")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    parts: list[Part] = []
    try:
        parts.append(Part.start("API", "app.cli", "api"))
        parts.append(Part.start("worker", "workers"))
        url = f"http://{settings.host}:{settings.port}"
        typer.echo(f"digitlab is at {url} (documentation: {url}/docs); Ctrl-C stops it.", err=True)
        return _watch(parts)
    except Stopped:
        return 0
    finally:
        _end(parts)


def _prepare_database(settings: Settings, *, starter_run: bool) -> None:
    database = Database(settings.resolved_database_url)
    migrate(database)
    if starter_run:
        with database.writing() as session:
            if not repository.has_runs(session):
                submission = service.prepare(session, STARTER_RUN)
                service.submit(session, submission, max_queued_runs=settings.max_queued_runs)
                typer.echo("A first model will be trained now, so that /predict can answer.", err=True)
    database.close()


def _watch(parts: list[Part]) -> int:
    while True:
        time.sleep(POLL_SECONDS)
        for part in parts:
            if part.process.poll() is not None and not part.restart():
                typer.secho(f"The {part.name} keeps ending right after its start; giving up.", err=True, fg="red")
                return 1


def _end(parts: list[Part]) -> None:
    """Stop all parts cleanly; what has not ended in time is killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for part in parts:
        if part.process.poll() is None:
            part.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for part in parts:
        part.end(deadline)


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    # A session of its own: a terminal's Ctrl-C reaches `up` alone, which then stops its parts in order.
    return subprocess.Popen(command, start_new_session=True)


def _stop(_number: int, _frame: object) -> None:
    raise Stopped


def _is_port_free(settings: Settings) -> bool:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError:
            return False
    return True
