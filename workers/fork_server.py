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
from typing import Literal, NoReturn

from workers import processes

StartMethod = Literal["spawn", "fork"]

LOAD_SECONDS = 300.0  # until everything is loaded, and compiled the first time
FORK_SECONDS = 2.0  # until a server that has loaded everything answers a request
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
            _, status = os.waitpid(self.pid, 0)
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
        return ForkedProcess(int(message))

    def close(self) -> None:
        """End the server at once; forked processes live on."""
        if self._process is not None:
            self._end()
            self._process = None

    def _start(self) -> None:
        processes.adopt_orphans()
        self._has_loaded = False
        # Messages keep their boundaries, and a server that has ended is the end of the stream.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        is_fork = self._start_method == "fork"
        context = multiprocessing.get_context("fork") if is_fork else multiprocessing.get_context("spawn")
        self._process = context.Process(
            target=_serve, args=(theirs, self._target, self._preload), name="digitlab-fork-server"
        )
        with theirs:
            self._process.start()
        # Also at the interpreter's exit, where `multiprocessing` would wait for the server for ever.
        self._end = weakref.finalize(self, _end, self._process, self._control)

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
    """Whether processes can be forked here: other systems' frameworks do not survive it, and pidfds are Linux's."""
    return processes.has_pidfd()


def _end(server: BaseProcess, control: socket.socket) -> None:
    control.close()
    server.kill()
    server.join()
    server.close()


def _serve(control: socket.socket, target: Callable[[Connection], None], preload: Callable[[], None]) -> None:
    """The server's life, until the client has gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes.set_name("fork-server")
    processes.end_with_parent()
    preload()
    gc.freeze()  # a collection writes into every object's header, which would copy the pages that forks share
    control.send(LOADED)
    while descriptors := socket.recv_fds(control, MAX_MESSAGE_BYTES, 1)[1]:  # none: the client has gone
        with Connection(descriptors[0]) as connection:
            _fork_orphan(control, target, connection)


def _fork_orphan(control: socket.socket, target: Callable[[Connection], None], connection: Connection) -> None:
    """Fork a process that the client adopts; returns in the server alone."""
    gate, opener = os.pipe()
    if between := os.fork():
        os.waitpid(between, 0)
        # The client is now the parent of the new process: close the pipe, which lets it begin.
        os.close(gate)
        os.close(opener)
        return
    if os.fork():
        os._exit(0)
    os.close(opener)
    os.read(gate, 1)
    os.close(gate)
    control.send(str(os.getpid()).encode())
    control.close()
    _run_and_exit(target, connection)


def _run_and_exit(target: Callable[[Connection], None], connection: Connection) -> NoReturn:
    """Run the target and end without the exit handlers of libraries, some of which wait for threads of the server."""
    code = 1
    try:
        target(connection)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
