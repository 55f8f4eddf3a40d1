"""Starts `python -m …` by forking a process that has loaded everything; that takes milliseconds instead of seconds."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from workers.fork_server import ForkedProcess, ForkServer, is_supported
from workers.trainer_process import NO_THREADS

PRELOADED = (
    "app.cli",
    "app.cli.options",
    "app.http.server",
    "app.cli.up",
    "app.main",
    "uvicorn",
    "uvloop",
    "httptools",
)


class Process(Protocol):
    """The part of `subprocess.Popen` that tests use."""

    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Launch(Protocol):
    """Starts `python -m` with these arguments; its log is appended to a file."""

    def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> Process: ...


def launch_for_real(arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> Process:
    """Start the process as a user does."""
    with log_file.open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", *arguments], env=environment, stderr=log)


class Launcher:
    """Starts processes by forking, on systems where that is possible."""

    def __init__(self) -> None:
        self._server = ForkServer(_run, _preload)

    def __call__(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> Process:
        if not is_supported():
            return launch_for_real(arguments, environment, log_file)
        with self._server.request() as connection:
            while (process := self._server.take_process(1)) is None:
                pass  # the server is loading, and limits the time itself
            connection.send((list(arguments), dict(environment), str(log_file)))
            connection.recv()  # signals must find the process as it would be without a fork
        return _Forked(process)

    def close(self) -> None:
        self._server.close()


class _Forked:
    """A forked process with the interface of `subprocess.Popen`."""

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process
        self.pid = process.pid
        self.send_signal = process.send_signal
        self.kill = process.kill

    def poll(self) -> int | None:
        self._process.join(0)
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return self._process.exitcode

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _preload() -> None:
    os.environ |= NO_THREADS
    importlib.import_module("workers.trainer").preload()
    for module in PRELOADED:
        importlib.import_module(module)


def _run(connection: Connection) -> None:
    """Turn the forked process into `python -m` with the arguments that the connection delivers."""
    (module, *arguments), environment, log_file = connection.recv()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    sys.argv = [module, *arguments]
    connection.send("ready")
    connection.close()
    if module == "workers":  # the worker's fork server is forked too, and need not load all again
        sys.exit(importlib.import_module("workers.__main__").main("fork"))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
