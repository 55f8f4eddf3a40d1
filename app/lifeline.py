"""A process that ends when the one that started it is gone, however that ended: its standard input is a pipe.

Nobody writes to the pipe. The parent alone keeps its other end open, so the kernel closes it when the parent ends, even
by `kill -9`, which no handler sees; a process group would outlive that.
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
ANNOUNCEMENT = b"\0"  # begins a line on standard error that is for the parent; no line of a log can (`app.visible`)

_is_held = False


def hold_on() -> None:
    """End, by SIGTERM, with the parent; does nothing in a process that was not started for that."""
    global _is_held
    if os.environ.pop(VARIABLE, None):  # child processes have other parents
        _is_held = True
        threading.Thread(target=_end_with_pipe, name="lifeline", daemon=True).start()


def announce(what: str) -> None:
    """Tell the parent that this process does its work by now; says nothing in one that was not started for that."""
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
