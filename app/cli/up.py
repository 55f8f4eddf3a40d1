"""`digitlab up`: runs one API and one worker, restarts each when it ends, and stops both together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NoReturn

import orjson
import typer
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError

from app import lifeline
from app.database import Database, describe_failure, utc_now
from app.http.server import CannotListen, authority, check_address, listen, resolve
from app.logs import configure_logging
from app.opening import Unusable, open_migrated
from app.runs import repository, service
from app.settings import Settings
from app.tables import Restart
from app.visible import visible

logger = logging.getLogger(__name__)
_log_format = "text"  # format of the messages of `up` itself

STARTER_RUN = {"preset": "handwriting", "name": "starter run"}
POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 10.0
MAX_FAILED_STARTS = 5
NUM_LAST_WORDS = 12  # lines of a process's output
KILLED = -9  # the exit code after SIGKILL, which Windows lacks


class NeverReady(Exception):
    """A process has never become ready; the message contains its last lines."""


class Stopped(BaseException):
    """The process has received SIGINT, SIGTERM or SIGHUP."""


@dataclass
class SupervisedProcess:
    """A process that `digitlab up` keeps running.

    Args:
        name: Name of the process in messages.
        command: Command line that starts the process.
        log_format: Format of the process's log; with `json`, lines that are not JSON are wrapped.
    """

    name: str
    command: list[str]
    log_format: str = "text"
    process: subprocess.Popen[bytes] | None = None
    ready_at: float | None = None  # when the running process became ready
    pause_seconds: float = 0.0  # before the next start
    start_at: float = 0.0  # earliest next start, by the monotonic clock
    was_ever_ready: bool = False
    num_failed_starts: int = 0
    reader: threading.Thread | None = None  # reads what the process logs
    announced: tuple[subprocess.Popen[bytes], str] | None = None  # the process, and what it announced
    last_words: deque[bytes] = field(default_factory=lambda: deque(maxlen=NUM_LAST_WORDS))

    def look(self) -> int | None:
        """Start the process when it is due, note whether it is ready, and return its exit code when it has just ended.

        Raises:
            NeverReady: The process has ended too often without having been ready.
        """
        now = time.monotonic()
        if self.process is None:
            if now >= self.start_at:
                try:
                    self._start()
                except (OSError, RuntimeError) as error:  # the system is out of processes, threads or files
                    _say(f"The {self.name} cannot be started: {error}.")
                    self._note_failed_start()
                    self._plan_start(now)
            return None
        exit_code = self.process.poll()
        if exit_code is None:
            if self.ready_at is None and self.announcement is not None:
                self.ready_at, self.was_ever_ready = now, True
            return None
        self._forget()
        if exit_code != KILLED:  # a process killed from outside may well be able to start
            self._note_failed_start()
        self._plan_start(now)
        return exit_code

    @property
    def announcement(self) -> str | None:
        """What the running process announced, through its own pipe, when it was ready."""
        announced = self.announced
        return announced[1] if announced is not None and announced[0] is self.process else None

    def _start(self) -> None:
        # The process gets its own session: a terminal's Ctrl-C reaches only `up`, which then stops its parts in order.
        self.process = subprocess.Popen(
            self.command,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, lifeline.VARIABLE: "1"},
        )
        self.ready_at = None
        self.last_words.clear()
        self.reader = threading.Thread(target=self._pass_on, args=(self.process,), daemon=True)
        self.reader.start()

    def _note_failed_start(self) -> None:
        if self.was_ever_ready:
            return
        self.num_failed_starts += 1
        if self.num_failed_starts >= MAX_FAILED_STARTS:
            words = b"".join(self.last_words).decode(errors="replace").rstrip()
            raise NeverReady(f"The {self.name} has ended {MAX_FAILED_STARTS} times without being ready:\n{words}")

    def _pass_on(self, process: subprocess.Popen[bytes]) -> None:
        """Write the process's log to the standard error of `up`, as long as there is one."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.startswith(lifeline.ANNOUNCEMENT):
                    self.announced = process, line[1:].decode(errors="replace").strip()
                    continue
                self.last_words.append(line)
                with suppress(OSError, ValueError):
                    os.write(2, line if self.log_format == "text" else as_json(line, self.name))

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
            self.reader.join(1.0)  # wait no longer: a process that it started may hold the pipe


def run_service(settings: Settings, *, starter_run: bool, open_page: bool = False) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP. Return the exit code."""
    global _log_format
    _log_format = settings.log_format
    if _log_format == "json":
        configure_logging("up", _log_format)
    try:
        resolve(settings)
        check_address(settings, _say_wrong)
        for listener in listen(settings):  # only a check: the API itself listens when it starts
            listener.close()
        database = open_migrated(settings)
    except (CannotListen, Unusable) as error:
        _say(str(error), fg="red")
        return 1
    try:
        _prepare_database(database, settings, starter_run=starter_run)
    except SQLAlchemyError as error:
        _say(f"The database cannot be used. {describe_failure(error)}", fg="red")
        database.close()
        return 1
    _catch_signals()
    parts = [
        SupervisedProcess("API", [sys.executable, "-m", "app.cli", "api"], settings.log_format),
        SupervisedProcess("worker", [sys.executable, "-m", "workers"], settings.log_format),
    ]
    counter = RestartCounter(database)
    try:
        if settings.port:
            _say_where(f"http://{authority(settings.host, settings.port)}")
        _watch(parts, counter, has_any_port=not settings.port, open_page=open_page)
    except NeverReady as error:
        _say(str(error), fg="red")
        return 1
    except Stopped:
        return 0
    finally:
        _end(parts)
        counter.close()
        database.close()


def _prepare_database(database: Database, settings: Settings, *, starter_run: bool) -> None:
    with database.writing() as session:
        session.execute(delete(Restart))
        if starter_run and not repository.has_runs(session):
            submission = service.prepare(session, STARTER_RUN)
            service.enqueue(session, submission, max_queued_runs=settings.max_queued_runs)
            _say("A first model will be trained now, so that /predict can answer.")


def _watch(parts: list[SupervisedProcess], counter: RestartCounter, *, has_any_port: bool, open_page: bool) -> NoReturn:
    said = None
    while True:
        for part in parts:
            exit_code = part.look()
            if open_page and part.name == "API" and part.announcement is not None:
                open_page = False
                threading.Thread(target=show_page, args=(part.announcement,), name="browser", daemon=True).start()
            if has_any_port and part.name == "API" and part.announcement not in (None, said):
                said = part.announcement
                _say_where(str(said))
            if exit_code is not None:
                _say(f"The {part.name} ended (exit code {exit_code}); starting it again in {part.pause_seconds:g} s.")
                counter.count(part.name, exit_code)
        time.sleep(POLL_SECONDS)


class RestartCounter:
    """Records restarts in the database from a thread of its own, so that a locked database delays no start."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: SimpleQueue[tuple[str, int] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="restarts", daemon=True)
        self._thread.start()

    def count(self, name: str, exit_code: int) -> None:
        self._waiting.put((name, exit_code))

    def close(self) -> None:
        """Write the restarts that wait, if that can be done at once."""
        self._waiting.put(None)
        self._thread.join(1.0)

    def _write(self) -> None:
        while (restart := self._waiting.get()) is not None:
            with suppress(SQLAlchemyError):
                _count(self._database, *restart)


def _count(database: Database, name: str, exit_code: int) -> None:
    with database.writing() as session:
        row = session.get(Restart, name)
        if row is None:
            session.add(Restart(part=name, count=1, exit_code=exit_code))
        else:
            row.count, row.exit_code, row.last_at = row.count + 1, exit_code, utc_now()


def _end(parts: list[SupervisedProcess]) -> None:
    """Stop all processes cleanly; kill those that have not ended in time."""
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)
    for part in parts:
        if part.process is not None and part.process.poll() is None:
            part.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for part in parts:
        part.end(deadline)


def as_json(line: bytes, name: str) -> bytes:
    """Return a line that is a JSON object as it is; wrap another, as an interpreter's or a library's last words."""
    try:
        is_json = isinstance(orjson.loads(line), dict)
    except ValueError:
        is_json = False
    if is_json:
        return line
    text = visible(line.decode(errors="replace").rstrip("\r\n"))
    record = {"level": "ERROR", "logger": "stderr", "message": text, "process": name.lower(), "time": utc_now()}
    return orjson.dumps(record) + b"\n"


def _say_where(url: str) -> None:
    _say(f"The page is at {url} (documentation of the API: {url}/docs); Ctrl-C stops it.")


def show_page(url: str) -> None:
    """Open the page in a browser; an API that listens on every address is asked on loopback."""
    page = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    try:
        is_open = webbrowser.open(page)
    except webbrowser.Error:
        is_open = False
    if not is_open:
        _say(f"There is no browser to open {page} with.")


def _say_wrong(text: str) -> None:
    _say(text, fg="red")


def _say(text: str, *, fg: str | None = None) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone, the disk full
        if _log_format == "json":
            logger.log(logging.ERROR if fg else logging.INFO, "%s", text)
            return
        for line in text.splitlines():
            typer.secho(visible(line), err=True, fg=fg)


def _signals() -> list[signal.Signals]:
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]


def _catch_signals() -> None:
    for number in _signals():
        if (
            number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN
        ):  # SIGHUP stays ignored under nohup
            signal.signal(number, _stop)


def _stop(_number: int, _frame: object) -> None:
    for number in _signals():  # a closing terminal may send two
        signal.signal(number, signal.SIG_IGN)
    raise Stopped
