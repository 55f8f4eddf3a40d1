"""The parent's view of the trainer: a process, forked or spawned, and the pipe to it. This module loads no torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from app.logs import configure_logging
from app.settings import Settings
from workers import processes
from workers.fork_server import ForkedProcess, ForkServer, ForkServerFailed, StartMethod, is_supported
from workers.messages import FromChild, FromParent, Ready
from workers.shared_clocks import Pulse
from workers.watchdog import margin, watch_parent

logger = logging.getLogger(__name__)

# OpenBLAS reads it when numpy is loaded. Its threads would not survive a fork, and a lock that one of them held at
# the fork would stay locked.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}


class TrainerProcess:
    """A trainer, from the moment at which it is requested.

    Args:
        settings: Passed to the trainer.
        pulse: Shared with the trainer.
        server: Forks the trainer; None: the trainer is spawned, and loads everything anew.
    """

    def __init__(self, settings: Settings, pulse: Pulse, server: ForkServer | None) -> None:
        self._server = server
        self._process: ForkedProcess | BaseProcess | None = None  # None until the server has forked it
        if server is None:
            self._connection, self._process = _spawn(settings, pulse)
        else:
            self._connection = server.request()
        self.ready: Ready | None = None
        self.started_at = time.monotonic()

    @property
    def exit_code(self) -> int | None:
        """The process's exit code, -N after signal N; None: it has not ended, or was never started."""
        return None if self._process is None else self._process.exitcode

    def receive(self, timeout: float) -> list[FromChild] | None:
        """The messages that arrive within `timeout` seconds; None: the trainer has gone, or cannot be started."""
        if self._process is None:
            return self._take_process(timeout)
        wait([self._connection, self._process.sentinel], timeout)
        messages: list[FromChild] = []
        try:
            while self._connection.poll():
                messages.append(self._connection.recv())
        except (EOFError, ConnectionResetError):
            return messages or None
        return messages if messages or self._process.is_alive() else None

    def send(self, message: FromParent) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the next `receive` reports it
            self._connection.send(message)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def join(self, timeout: float | None = None) -> None:
        if self._process is not None:
            self._process.join(timeout)

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        self.join()
        self._connection.close()
        if self._process is None and self._server is not None:
            self._server.close()  # else the server would fork a trainer that the worker no longer waits for

    def _take_process(self, timeout: float) -> list[FromChild] | None:
        assert self._server is not None, "a spawned process is there at once"
        try:
            self._process = self._server.take_process(timeout)
        except ForkServerFailed as failure:
            logger.error("%s", failure)
            return None
        return []


def make_fork_server(settings: Settings, pulse: Pulse, start_method: StartMethod) -> ForkServer | None:
    """The server that forks trainers, not started yet; None: trainers are spawned."""
    if not settings.fork_server or not is_supported():
        return None
    return ForkServer(partial(_run_trainer, settings=settings, pulse=pulse), partial(_preload, settings), start_method)


def _spawn(settings: Settings, pulse: Pulse) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_spawned, args=(theirs, settings, pulse), name="digitlab-trainer", daemon=True)
    with theirs:  # only the trainer keeps this end open, so the pipe ends with it
        process.start()
    return ours, process


def _run_spawned(connection: Connection, settings: Settings, pulse: Pulse) -> None:
    processes.ignore_stop_signals()
    _preload(settings)
    _run_trainer(connection, settings, pulse)


def _preload(settings: Settings) -> None:
    """Load the trainer's modules and compiled code."""
    configure_logging("trainer", settings.log_format)
    os.environ |= NO_THREADS
    from workers import trainer  # here: it loads torch, and this module belongs to the worker's parent process

    trainer.preload()


def _run_trainer(connection: Connection, settings: Settings, pulse: Pulse) -> None:
    processes.set_name("trainer")
    watch_parent(pulse, margin(settings.lease_seconds) / 2)
    from workers import trainer

    trainer.main(connection, settings, pulse)
