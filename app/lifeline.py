"""Ends a process when its parent is gone, however the parent ended: the process's standard input is a pipe.

No process writes to the pipe. Only the parent keeps its other end open, so the kernel closes it when the parent ends,
even by `kill -9`, which no handler sees; a process group would outlive that.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

VARIABLE = "DIGITLAB_LIFELINE"
STOP_SECONDS = 20.0
ANNOUNCEMENT = b"\0"  # begins a line for the parent on standard error; no log line can begin with it (`app.visible`)

_is_held = False


def hold_on() -> None:
    """End by SIGTERM when the parent ends; do nothing in a process that was started without a lifeline."""
    global _is_held
    if os.environ.pop(VARIABLE, None):  # removed for child processes, which have another parent
        _is_held = True
        threading.Thread(target=_end_with_pipe, name="lifeline", daemon=True).start()


def announce(what: str) -> None:
    """Tell the parent that this process is ready; do nothing in a process that was started without a lifeline."""
    if _is_held:
        with suppress(OSError):
            os.write(2, ANNOUNCEMENT + what.encode() + b"\n")


def end_with_parent(end: Callable[[], object]) -> None:
    """In a child of `multiprocessing`, call `end` from a thread once the parent has ended, by `kill -9` too."""
    parent = multiprocessing.parent_process()
    if parent is None:  # this process was started otherwise
        return

    def wait() -> None:
        parent.join()
        end()

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _end_with_pipe() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(1)
