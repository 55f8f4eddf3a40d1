"""Two clocks by which the worker's parent process and its trainer child watch each other without messages.

Both hold times of `time.monotonic()`, which is the same for all processes of a machine. They lie in shared memory, so a
watchdog can read them whatever the rest of its process is doing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

FOLLOW_SECONDS = 0.25


class Pulse:
    """The two clocks. The parent sets the lease's end, for both watchdogs; both sides mark progress, for the parent."""

    def __init__(self, context: BaseContext) -> None:
        # Each is one aligned double, which is written in one instruction: no process reads half of it.
        self._lease_until = context.RawValue("d", math.inf)
        self._progressed_at = context.RawValue("d", time.monotonic())

    @property
    def lease_until(self) -> float:
        """Set by the parent: the time at which work must end unless the lease is renewed; infinite without a lease."""
        return float(self._lease_until.value)

    @lease_until.setter
    def lease_until(self, moment: float) -> None:
        self._lease_until.value = moment

    @property
    def seconds_without_progress(self) -> float:
        return time.monotonic() - float(self._progressed_at.value)

    def mark_progress(self) -> None:
        """Set the time of the last progress to now.

        The child calls it when a step is done, a run is prepared or its outcome is committed; the parent when it sends
        the child a stack.
        """
        self._progressed_at.value = time.monotonic()

    @contextmanager
    def following(self, count: Callable[[], int]) -> Iterator[None]:
        """Mark progress whenever `count` changes, inside the `with` block; called by the child.

        A thread calls `count` four times a second, so the training calls nothing between the steps of an epoch.
        """
        is_over = threading.Event()

        def follow() -> None:
            seen = count()
            while not is_over.wait(FOLLOW_SECONDS):
                now = count()
                if now != seen:
                    self.mark_progress()
                seen = now

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
