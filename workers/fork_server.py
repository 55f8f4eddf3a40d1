"""A process that loads what its children need once, then forks a child on request in milliseconds; Linux only.

A forked process becomes a child of the client, not of the server: it is forked twice, the process in between ends, and
the kernel hands the orphan to the client (PR_SET_CHILD_SUBREAPER). So the client waits for it and kills it like any
child of its own, and the end of the server concerns no process that was forked before.
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

LOAD_SECONDS = 300.0  # until everything is loaded, and compiled the first time
FORK_SECONDS = 30.0  # until a server that has loaded everything answers; a stopped one is noticed at once
END_SECONDS = 5.0  # until a process that was being forked when its server was closed has said so
EXIT_CODE_UNKNOWN = 255
LOADED = b"loaded"
FORK = b"fork"
MAX_MESSAGE_BYTES = 32


class ForkServerFailed(Exception):
    """The server has ended, is stopped, or does not answer; it has been killed, and the next request starts another."""


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
        """Wait for the process's end, `timeout` seconds at most, and take its exit code; -N after signal N."""
        if self.exitcode is None and wait([self.sentinel], timeout):
            try:
                _, status = os.waitpid(self.pid, 0)
            except ChildProcessError:  # this process was started with SIGCHLD ignored
                self.exitcode = EXIT_CODE_UNKNOWN
            else:
                self.exitcode = os.waitstatus_to_exitcode(status)

    def send_signal(self, number: int) -> None:
        if self.exitcode is None:
            with suppress(ProcessLookupError):  # it has just ended
                signal.pidfd_send_signal(self.sentinel, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Starts processes that all run one function, from a server process that is started when it is first needed.

    Args:
        target: Run in each forked process; its connection leads to this process. SIGINT, SIGTERM and SIGHUP are ignored
            there, as in the server, since a signal to the process group is for the client to handle.
        preload: Run once in the server, before the first fork. It must not start threads or call CUDA: neither
            survives a fork.
        start_method: How the server itself is started: `fork` only by a process that has loaded everything already.
    """

    def __init__(
        self, target: Callable[[Connection], None], preload: Callable[[], None], start_method: StartMethod = "spawn"
    ) -> None:
        self._target = target
        self._preload = preload
        self._start_method = start_method
        self._process: BaseProcess | None = None
        self._deadline = 0.0  # for the server's next message
        self._has_loaded = False

    def request(self) -> Connection:
        """Ask for a process, without waiting for it; `take_process` returns it. One request at a time."""
        if self._process is None or not self._process.is_alive():
            self.close()
            self._start()
        ours, theirs = multiprocessing.Pipe()
        with theirs, suppress(OSError):  # the server has just ended: `take_process` will tell
            socket.send_fds(self._control, [FORK], [theirs.fileno()])
        self._deadline = time.monotonic() + (FORK_SECONDS if self._has_loaded else LOAD_SECONDS)
        return ours

    def take_process(self, timeout: float) -> ForkedProcess | None:
        """Wait for the requested process, `timeout` seconds at most.

        Raises:
            ForkServerFailed: There will be no such process.
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
        """End the server at once, and a requested process with it; those that were taken live on."""
        if self._process is not None:
            self._end()
            self._process = None

    def _start(self) -> None:
        processes.adopt_orphans()
        # Messages keep their boundaries, and a server that has ended is the end of the stream.
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
        """Raise if the server cannot be expected to answer."""
        if time.monotonic() > self._deadline:
            raise self._failure("does not answer")
        assert self._process is not None
        assert self._process.pid is not None
        if sys.platform == "linux":
            with suppress(ChildProcessError):  # it has ended: the next call will tell
                if os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT):
                    raise self._failure("is stopped")

    def _failure(self, what: str) -> ForkServerFailed:
        self.close()
        return ForkServerFailed(f"The fork server {what}")


def is_supported() -> bool:
    """Whether this process can adopt forked ones: on Linux, where the kernel and its sandbox allow it."""
    return processes.has_pidfd() and processes.adopt_orphans()


def _end(server: BaseProcess, control: socket.socket) -> None:
    """Kill the server, and the process that it was forking, if any: its id is what is left to read."""
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
    """The server's life, until the client has gone."""
    processes.ignore_stop_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or it could not wait for the processes that it forks
    processes.set_name("fork-server")
    processes.end_with_parent()
    preload()
    gc.freeze()  # a collection writes into every object's header, which would copy the pages that forks share
    control.send(LOADED)
    while descriptors := socket.recv_fds(control, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)[1]:  # none: no client
        with Connection(descriptors[0]) as connection:
            _fork_orphan(control, target, connection)


def _fork_orphan(control: socket.socket, target: Callable[[Connection], None], connection: Connection) -> None:
    """Fork a process that the client adopts; returns in the server alone."""
    gate, opener = os.pipe()
    if between := os.fork():
        _, status = os.waitpid(between, 0)
        # The client is now the parent of the new process: close the pipe, which lets it begin.
        os.close(gate)
        os.close(opener)
        if status:
            raise OSError("The second of two forks has failed")
        return
    _exit_after(_fork_again, gate, opener, control, target, connection)


def _fork_again(
    gate: int, opener: int, control: socket.socket, target: Callable[[Connection], None], connection: Connection
) -> None:
    """In the process between: fork the new process, which waits until the client has adopted it."""
    if os.fork():
        return
    os.close(opener)
    os.read(gate, 1)
    os.close(gate)
    with control:
        try:
            control.send(str(os.getpid()).encode())
        except OSError:  # the client has gone, or has closed the server
            sys.exit(processes.EXIT_PARENT_GONE)
    target(connection)


def _exit_after(function: Callable[..., None], *arguments: Any) -> NoReturn:
    """Call a function and end without the exit handlers of libraries, some of which wait for threads of the server."""
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
