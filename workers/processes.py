"""A process's name, signals and parent, by prctl(2) and pidfd_open(2); most of it does nothing except on Linux."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
EXIT_PARENT_GONE = 76


def set_name(name: str) -> None:
    """Set the name that `ps -o comm` shows, of 15 bytes at most."""
    _prctl(PR_SET_NAME, name.encode())


def adopt_orphans() -> bool:
    """Make this process the parent of each descendant whose own parent ends; False where the kernel refuses."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def ignore_stop_signals() -> None:
    """Ignore SIGINT, SIGTERM and SIGHUP: the parent acts when they are sent to the whole process group."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if number := getattr(signal, name, None):  # Windows has no SIGHUP
            signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """Make Linux kill this process when its parent ends, whatever this process is doing then."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent().pid:  # the parent ended before the call
            os._exit(EXIT_PARENT_GONE)


def parent() -> BaseProcess:
    """The process that started this one, or that requested it from a fork server."""
    found = multiprocessing.parent_process()
    assert found is not None, "called in a child process"
    return found


def parent_sentinel() -> int:
    """Open a file descriptor that becomes readable when the parent ends.

    `multiprocessing` has a sentinel too, but a forked process inherits its fork server's, which becomes readable when
    the server ends, although the parent lives.
    """
    return os.pidfd_open(os.getppid()) if has_pidfd() else parent().sentinel


def has_pidfd() -> bool:
    """Whether pidfd_open(2) and pidfd_send_signal(2) can be called: on Linux 5.3 or newer, if no sandbox forbids it."""
    if sys.platform != "linux":
        return False
    try:
        descriptor = os.pidfd_open(os.getpid())
        try:
            signal.pidfd_send_signal(descriptor, 0)
        finally:
            os.close(descriptor)
    except (AttributeError, OSError):
        return False
    return True


def _prctl(option: int, value: int | bytes) -> bool:
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
