"""Lets one child process draw pictures, started for the first one; the API's process never loads matplotlib."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from app import lifeline
from app.errors import Unavailable

TIMEOUT_SECONDS = 30.0
NICENESS = 5  # 10 is too much: with two busy programs per core, nothing was drawn within the time limit
YIELD_SECONDS = 0.0003
LONGEST_TURN_SECONDS = 0.01


class Picture(StrEnum):
    """What can be drawn: the modules that have a function `draw(data) -> bytes`, imported by the child alone."""

    CONFUSION = "app.charts.confusion"
    CURVES = "app.charts.curves"
    DIGITS = "app.charts.digits"
    GRADIENTS = "app.charts.gradients"
    SWEEP = "app.charts.sweep"
    WEIGHTS = "app.charts.weights"


class _ChildDied(Exception):
    pass


class Renderer:
    """Draws one picture at a time.

    Args:
        timeout_seconds: Longest time for a picture, after which the child is killed; also the longest wait of a caller
            for its turn.
    """

    def __init__(self, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._timeout_seconds = timeout_seconds
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    def draw(self, module: str, data: dict[str, Any]) -> bytes:
        """Draw a picture; block until it is done.

        Args:
            module: Dotted name of the module whose `draw(data) -> bytes` is called in the child: a `Picture`.
            data: Argument of that function; it must be picklable.

        Raises:
            Unavailable: The picture takes too long, the child dies twice, or the renderer is closed.
            RuntimeError: The function raised; the message holds the child's traceback.
        """
        if not self._turn.acquire(timeout=self._timeout_seconds):
            raise Unavailable("Other pictures are being drawn; try again.", slug="picture-timeout")
        try:
            for _ in range(2):
                try:
                    return self._living_child().draw(module, data, self._timeout_seconds)
                except _ChildDied:
                    self._drop_child()
            raise Unavailable("The process that draws pictures died twice.", slug="picture-failed")
        finally:
            self._turn.release()

    def close(self) -> None:
        """Kill the child at once; a picture that is being drawn fails with `Unavailable`."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()

    def _living_child(self) -> _Child:
        if self._child is None:
            self._child = _Child()
        if self._closed:  # checked after the start, so that `close` misses no child
            self._drop_child()
            raise Unavailable("The service is shutting down.")
        return self._child

    def _drop_child(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None


class _Child:
    """The drawing process, as the API's process sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="digitlab-charts", daemon=True)
        _start_deaf_to_sigint(self._process)
        theirs.close()  # a dead child is then the end of file here

    def draw(self, module: str, data: dict[str, Any], timeout_seconds: float) -> bytes:
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            self.kill()

        timer = threading.Timer(timeout_seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            self._connection.send((module, data))
            answer: bytes | str = self._connection.recv()
        except (EOFError, OSError) as error:
            if is_late.is_set():
                detail = f"The picture took longer than {timeout_seconds:g} s."
                raise Unavailable(detail, slug="picture-timeout") from error
            raise _ChildDied from error
        finally:
            timer.cancel()
        if isinstance(answer, str):
            raise RuntimeError(f"{module} could not draw the picture:\n{answer}")
        return answer

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._connection.close()


def _start_deaf_to_sigint(process: SpawnProcess) -> None:
    """Start a process that ignores Ctrl-C from its first moment.

    Ctrl-C reaches the whole process group, but the child must end with the API, and never with a traceback.
    """
    if sys.platform == "win32":
        process.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # this thread's mask; the child inherits it
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    """Run the child: draw pictures until the API's process has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _ignore_matplotlib_settings()
    lifeline.end_with_parent(partial(os._exit, 0))  # in the middle of a picture, too
    is_first = True
    while True:
        try:
            module, data = connection.recv()
            if is_first:
                _prepare(module)
                is_first = False
            connection.send(_draw(module, data))
        except (EOFError, OSError):
            return


def _ignore_matplotlib_settings() -> None:
    """Make matplotlib read no `matplotlibrc` but its own: it looks into the current folder first."""
    os.environ.pop("MPLBACKEND", None)
    found = find_spec("matplotlib")  # this does not import it
    if found is not None and found.origin is not None:
        with suppress(OSError):  # some distributions keep it elsewhere
            os.chdir(Path(found.origin).parent / "mpl-data")


def _prepare(module: str) -> None:
    """Load matplotlib at normal priority, and lower the priority only then.

    A child that loaded matplotlib at low priority never drew the first picture on a busy machine.
    """
    with suppress(Exception):  # `_draw` will report it
        importlib.import_module(module)
    if sys.platform != "win32":
        os.nice(NICENESS)  # /predict has priority


def _draw(module: str, data: dict[str, Any]) -> bytes | str:
    try:
        with giving_way():
            picture: bytes = importlib.import_module(module).draw(data)
    except Exception:
        return traceback.format_exc()
    return picture


@contextmanager
def giving_way() -> Iterator[None]:
    """Yield the core to other processes every `YIELD_SECONDS` of drawing.

    The scheduler alone would keep a prediction waiting for milliseconds, and a prediction takes less than one. If a
    process keeps the core for longer, it is busy with something else. The next turn of drawing is then as long as that
    process kept the core, at most `LONGEST_TURN_SECONDS`: drawing would never finish if it yielded all the time.
    """
    if not hasattr(os, "sched_yield"):
        yield
        return
    turn, began_at = YIELD_SECONDS, time.thread_time()

    def give_way(*_: object) -> None:
        nonlocal turn, began_at
        if time.thread_time() - began_at > turn / 2:  # less if the scheduler took the core away
            started = time.perf_counter()
            os.sched_yield()
            turn = min(max(YIELD_SECONDS, time.perf_counter() - started), LONGEST_TURN_SECONDS)
            began_at = time.thread_time()
        # The timer is set only now: a repeating timer would fire while other processes have the core.
        signal.setitimer(signal.ITIMER_REAL, turn)

    signal.signal(signal.SIGALRM, give_way)
    signal.setitimer(signal.ITIMER_REAL, turn)
    try:
        yield
    finally:
        # The handler is a function, not SIG_IGN: Python complains about a signal that came while it is being ignored.
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0)
