"""Ends the worker's processes before a lease that could not be renewed runs out, even if one of them is stopped.

Parent and child each have a watchdog thread. The first thread that finds the deadline passed ends both processes: a
stopped process may hold locks, and a process that wakes up late may take its lease for valid.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import NoReturn

from workers import processes
from workers.processes import EXIT_PARENT_GONE
from workers.shared_clocks import Pulse

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.1
EXIT_LEASE_LOST = 75  # EX_TEMPFAIL of sysexits.h: start me again


def margin(lease_seconds: float) -> float:
    """The seconds before a lease's end at which the work on it must have ended."""
    return lease_seconds / 6


def watch_child(pulse: Pulse, kill_child: Callable[[], None]) -> None:
    """The parent's watchdog ends the child and this process when the lease has not been renewed in time."""

    def watch() -> None:
        while time.monotonic() < pulse.lease_until:
            time.sleep(TICK_SECONDS)
        try:
            kill_child()
            logger.error("The lease could not be renewed in time: the trainer and this worker end")
        finally:
            os._exit(EXIT_LEASE_LOST)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()


def watch_parent(pulse: Pulse, grace_seconds: float) -> None:
    """The child's watchdog ends this process with the parent, and both when the lease was not renewed in time.

    Args:
        pulse: Shared with the parent.
        grace_seconds: The time by which this watchdog acts later than the parent's own. It has to act only if the
            parent is stopped (SIGSTOP, a frozen container).
    """
    processes.end_with_parent()
    parent_pid, sentinel = processes.parent().pid, processes.parent_sentinel()

    def watch() -> None:
        while time.monotonic() < pulse.lease_until + grace_seconds:
            if wait([sentinel], TICK_SECONDS):
                _end("The worker is gone: the trainer ends", EXIT_PARENT_GONE)
        if os.getppid() == parent_pid:
            os.kill(parent_pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        _end("The worker did not renew its lease in time: both end", EXIT_LEASE_LOST)

    threading.Thread(target=watch, name="watchdog", daemon=True).start()


def _end(why: str, code: int) -> NoReturn:
    logger.error(why)
    os._exit(code)
