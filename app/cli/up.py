"""`digitlab up`: one API and one worker, started again when one ends, stopped together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import typer
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError

from app import lifeline
from app.cli.server import check_address
from app.database import Database, migrate, utc_now
from app.runs import repository, service
from app.settings import Settings
from app.tables import Restart, Worker

STARTER_RUN = {"preset": "dropout-tanh", "name": "starter run", "training": {"epochs": 400}}
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 10.0
MAX_FAILED_STARTS = 5
NUM_LAST_WORDS = 12  # lines
KILLED = -9  # the exit code after SIGKILL, which Windows lacks


class NeverReady(Exception):
    """A part has not once become ready; the message holds its last words."""


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP has come."""


@dataclass
class Part:
    """A process that is to be kept running.

    Args:
        name: For people.
        command: Starts it.
        is_ready: Whether the process with this id does its work by now.
    """

    name: str
    command: list[str]
    is_ready: Callable[[int], bool]
    process: subprocess.Popen[bytes] | None = None
    ready_at: float | None = None  # of the process that runs
    pause_seconds: float = 0.0  # before the next start
    start_at: float = 0.0  # not before, by the monotonic clock
    was_ever_ready: bool = False
    num_failed_starts: int = 0
    reader: threading.Thread | None = None  # of what it logs
    last_words: deque[bytes] = field(default_factory=lambda: deque(maxlen=NUM_LAST_WORDS))

    def look(self) -> int | None:
        """Start it when its time has come, see whether it is ready; the exit code, when it has just ended.

        Raises:
            NeverReady: It has ended too often without having been ready.
        """
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                try:
                    self._start()
                except (OSError, RuntimeError) as error:  # no process, no thread, no file to be had just now
                    _say(f"The {self.name} cannot be started: {error}.")
                    self._note_failed_start()
                    self._plan_start(now)
            return None
        exit_code = self.process.poll()
        if exit_code is None:
            if self.ready_at is None and self.is_ready(self.process.pid):
                self.ready_at, self.was_ever_ready = now, True
            return None
        self._forget()
        if exit_code != KILLED:  # what is killed from outside says nothing about whether it could start
            self._note_failed_start()
        self._plan_start(now)
        return exit_code

    def _start(self) -> None:
        # A session of its own: a terminal's Ctrl-C reaches `up` alone, which then stops its parts in order.
        self.process = subprocess.Popen(
            self.command,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, lifeline.VARIABLE: "1"},
        )
        self.ready_at = None
        self.last_words.clear()
        self.reader = threading.Thread(target=_pass_on, args=(self.process, self.last_words), daemon=True)
        self.reader.start()

    def _note_failed_start(self) -> None:
        if self.was_ever_ready:
            return
        self.num_failed_starts += 1
        if self.num_failed_starts >= MAX_FAILED_STARTS:
            words = b"".join(self.last_words).decode(errors="replace").rstrip()
            raise NeverReady(f"The {self.name} has ended {MAX_FAILED_STARTS} times without being ready:\n{words}")

    def _plan_start(self, now: float) -> None:
        if self.ready_at is not None and now - self.ready_at >= HEALTHY_SECONDS:
            self.pause_seconds = 0.0
        self.pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * self.pause_seconds), LONGEST_PAUSE_SECONDS)
        self.start_at = now + self.pause_seconds

    def end(self, deadline: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._forget()

    def _forget(self) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process = None
        if self.reader is not None:
            self.reader.join(1.0)  # no longer: a process that it has started may hold the pipe


def run_service(settings: Settings, *, starter_run: bool) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; returns the exit code."""
    check_address(settings)
    if not _is_port_free(settings):
        _say(f"Something listens on {settings.host}:{settings.port} already; choose another --port.")
        return 1
    database = Database(settings.resolved_database_url)
    try:
        _prepare_database(database, settings, starter_run=starter_run)
    except SQLAlchemyError as error:
        _say(f"The database cannot be used: {error}", fg="red")
        return 1
    _catch_signals()
    parts = [
        Part("API", [sys.executable, "-m", "app.cli", "api"], lambda _: _answers(settings)),
        Part("worker", [sys.executable, "-m", "workers"], lambda pid: _is_worker_ready(database, pid)),
    ]
    try:
        url = f"http://{settings.host}:{settings.port}"
        _say(f"digitlab is at {url} (documentation: {url}/docs); Ctrl-C stops it.")
        _watch(parts, database)
    except NeverReady as error:
        _say(str(error), fg="red")
        return 1
    except Stopped:
        return 0
    finally:
        _end(parts)
        database.close()


def _prepare_database(database: Database, settings: Settings, *, starter_run: bool) -> None:
    migrate(database)
    with database.writing() as session:
        session.execute(delete(Restart))
        if starter_run and not repository.has_runs(session):
            submission = service.prepare(session, STARTER_RUN)
            service.submit(session, submission, max_queued_runs=settings.max_queued_runs)
            _say("A first model will be trained now, so that /predict can answer.")


def _watch(parts: list[Part], database: Database) -> NoReturn:
    while True:
        for part in parts:
            exit_code = part.look()
            if exit_code is not None:
                _say(f"The {part.name} ended (exit code {exit_code}); starting it again in {part.pause_seconds:g} s.")
                _count(database, part.name, exit_code)
        time.sleep(POLL_SECONDS)


def _count(database: Database, name: str, exit_code: int) -> None:
    with suppress(SQLAlchemyError), database.writing() as session:
        row = session.get(Restart, name)
        if row is None:
            session.add(Restart(part=name, count=1, exit_code=exit_code))
        else:
            row.count, row.exit_code, row.last_at = row.count + 1, exit_code, utc_now()


def _answers(settings: Settings) -> bool:
    """Whether somebody listens on the API's port, which was free before it was started. Port 0 could be any."""
    if settings.port == 0:
        return True
    with suppress(OSError), socket.create_connection((settings.host, settings.port), timeout=1):
        return True
    return False


def _is_worker_ready(database: Database, pid: int) -> bool:
    with suppress(SQLAlchemyError), database.reading() as session:
        found = session.scalar(select(Worker.device).where(Worker.pid == pid, Worker.host == socket.gethostname()))
        return found is not None
    return False


def _end(parts: list[Part]) -> None:
    """Stop all parts cleanly; what has not ended in time is killed."""
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)
    for part in parts:
        if part.process is not None and part.process.poll() is None:
            part.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for part in parts:
        part.end(deadline)


def _pass_on(process: subprocess.Popen[bytes], last_words: deque[bytes]) -> None:
    """Write what a part logs to the standard error of `up`, as long as there is one."""
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            last_words.append(line)
            with suppress(OSError, ValueError):
                os.write(2, line)


def _say(text: str, *, fg: str | None = None) -> None:
    with suppress(OSError, ValueError):  # a terminal that is gone, a full disk
        typer.secho(text, err=True, fg=fg)


def _signals() -> list[signal.Signals]:
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]


def _catch_signals() -> None:
    for number in _signals():
        if (
            number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN
        ):  # as under nohup
            signal.signal(number, _stop)


def _stop(_number: int, _frame: object) -> None:
    for number in _signals():  # a terminal that is closed may send two
        signal.signal(number, signal.SIG_IGN)
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
