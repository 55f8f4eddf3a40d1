"""A server process that loads the children's code once, then forks a child on request in milliseconds; Linux only.

A forked process becomes a child of the client (the process that uses `ForkServer`), not of the server: the server forks
twice, the process in between ends, and the kernel makes the client the orphan's parent (PR_SET_CHILD_SUBREAPER). So the
client waits for it and kills it like any child of its own, and processes that were forked outlive the server.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any, Literal, NoReturn

from workers import processes

StartMethod = Literal["spawn", "fork"]

LOAD_SECONDS = 300.0  # limit for a server to load everything, and to compile it the first time
FORK_SECONDS = 30.0  # limit for a loaded server to fork a process; a stopped server is noticed at once
END_SECONDS = 5.0  # how long `_end` waits for the id of a process whose fork was under way
EXIT_CODE_UNKNOWN = 255
LOADED = b"loaded"
FORK = b"fork"
MAX_MESSAGE_BYTES = 32


class ForkServerFailed(Exception):
    """The server has ended, is stopped, or does not reply; it has been killed, and the next request starts another."""


class ForkedProcess:
    """A forked child of this process, with the methods of `multiprocessing.Process` that a supervisor needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.sentinel = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self.sentinel)
        self.exitcode: int | None = None

    def is_alive(self) -> bool:
        self.join(0)
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Wait `timeout` seconds at most for the process to end, and set `exitcode`; -N after signal N."""
        if self.exitcode is None and wait([self.sentinel], timeout):
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:  # this process was started with SIGCHLD ignored
                self.exitcode = EXIT_CODE_UNKNOWN
            else:
                self.exitcode = os.waitstatus_to_exitcode(status)

    def send_signal(self, number: int) -> None:
        if self.exitcode is None:
            with suppress(ProcessLookupError):  # the process has just ended
                signal.pidfd_send_signal(self.sentinel, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts processes that all run one function. The server process is started at the first request.

    Args:
        target: Called in each forked process, with a connection to this process. The forked processes and the server
            ignore SIGINT, SIGTERM and SIGHUP, since the client handles signals to the process group.
        preload: Called once in the server, before the first fork. It must not start threads or call CUDA: neither
            survives a fork.
        start_method: The start method of the server itself; `fork` only if this process has loaded everything already.
    """

    def __init__(
        self, target: Callable[[Connection], None], preload: Callable[[], None], start_method: StartMethod = "spawn"
    ) -> None:
        self._target = target
        self._preload = preload
        self._start_method = start_method
        self._process: BaseProcess | None = None
        self._deadline = 0.0  # of the server's next message
        self._has_loaded = False

    def request(self) -> Connection:
        """Request a process without waiting for it; `take_process` returns it. Only one request may be open."""
        if self._process is None or not self._process.is_alive():
            self.close()
            self._start()
        ours, theirs = multiprocessing.Pipe()
        with theirs, suppress(OSError):  # the server has just ended: `take_process` raises it
            socket.send_fds(self._control, [FORK], [theirs.fileno()])
        self._deadline = time.monotonic() + (FORK_SECONDS if self._has_loaded else LOAD_SECONDS)
        return ours

    def take_process(self, timeout: float) -> ForkedProcess | None:
        """Wait `timeout` seconds at most for the requested process; None: it is not there yet.

        Raises:
            ForkServerFailed: The server failed before it forked the process.
        """
        if not wait([self._control], timeout):
            self._check()
            return None
        try:
            message = self._control.recv(MAX_MESSAGE_BYTES)
        except OSError:
            message = b""
        if not message:
            raise self._failure("has ended")
        if message == LOADED:
            self._has_loaded = True
            self._deadline = time.monotonic() + FORK_SECONDS
            return None
        try:
            return ForkedProcess(int(message))
        except ProcessLookupError:
            raise self._failure("has forked a process that this one did not adopt") from None

    def close(self) -> None:
        """Kill the server and a process that is still requested; processes that were taken are not affected."""
        if self._process is not None:
            self._end()
            self._process = None

    def _start(self) -> None:
        processes.adopt_orphans()
        # SOCK_SEQPACKET keeps the boundaries of messages, and reports the server's end as the end of the stream.
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        is_fork = self._start_method == "fork"
        context = multiprocessing.get_context("fork") if is_fork else multiprocessing.get_context("spawn")
        process = context.Process(
            target=_serve, args=(theirs, self._target, self._preload), name="digitlab-fork-server"
        )
        with theirs:
            process.start()
        self._process, self._control, self._has_loaded = process, control, False
        # The finalizer also runs at the interpreter's exit, before `multiprocessing` waits for the server.
        self._end = Finalize(self, _end, args=(process, control), exitpriority=0)

    def _check(self) -> None:
        """Raise if the server is stopped, or its next message is overdue."""
        if time.monotonic() > self._deadline:
            raise self._failure("does not answer")
        assert self._process is not None
        assert self._process.pid is not None
        if sys.platform == "linux":
            with suppress(ChildProcessError):  # the server has ended: the next call of `take_process` raises it
                if os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT):
                    raise self._failure("is stopped")

    def _failure(self, what: str) -> ForkServerFailed:
        self.close()
        return ForkServerFailed(f"The fork server {what}")


def is_supported() -> bool:
    """Whether this process can adopt forked processes: only on Linux, if no sandbox forbids the system calls."""
    return processes.has_pidfd() and processes.adopt_orphans()


def _end(server: BaseProcess, control: socket.socket) -> None:
    """Kill the server, and the process that it was forking, if any: its id can still be read."""
    server.kill()
    server.join()
    server.close()
    control.settimeout(END_SECONDS)
    with control, suppress(OSError):
        while message := control.recv(MAX_MESSAGE_BYTES):
            if message != LOADED:
                with suppress(ProcessLookupError):
                    forked = ForkedProcess(int(message))
                    forked.kill()
                    forked.join()


def _serve(control: socket.socket, target: Callable[[Connection], None], preload: Callable[[], None]) -> None:
    """The server's main function: load, then fork a process for each request until the client has gone."""
    processes.ignore_stop_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it were ignored, the server could not wait for its forks
    processes.set_name("fork-server")
    processes.end_with_parent()
    preload()
    gc.freeze()  # a collection would write to every object's header, and so copy the pages that forks share
    control.send(LOADED)
    # A message without a descriptor is the end of the stream: the client has gone.
    while descriptors := socket.recv_fds(control, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)[1]:
        with Connection(descriptors[0]) as connection:
            _fork_orphan(control, target, connection)


def _fork_orphan(control: socket.socket, target: Callable[[Connection], None], connection: Connection) -> None:
    """Fork a process that the client adopts; returns only in the server."""
    gate, opener = os.pipe()
    if between := os.fork():
        _, status = os.waitpid(between, 0)
        # The process in between has ended, so the client is the new process's parent: closing the pipe lets it begin.
        os.close(gate)
        os.close(opener)
        if status:
            raise OSError("The second of two forks has failed")
        return
    _exit_after(_fork_again, gate, opener, control, target, connection)


def _fork_again(
    gate: int, opener: int, control: socket.socket, target: Callable[[Connection], None], connection: Connection
) -> None:
    """The process in between forks the new process, which waits until the client has adopted it."""
    if os.fork():
        return
    os.close(opener)
    os.read(gate, 1)
    os.close(gate)
    with control:
        try:
            control.send(str(os.getpid()).encode())
        except OSError:  # the client has gone or has closed the server
            sys.exit(processes.EXIT_PARENT_GONE)
    target(connection)


def _exit_after(function: Callable[..., None], *arguments: Any) -> NoReturn:
    """Call a function, then end this process without libraries' exit handlers: some wait for threads of the server."""
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
