"""What the worker's parent process and its trainer child can tell about each other without a message: two clocks.

Both count in seconds of `time.monotonic()`, which the processes of a machine share. They lie in shared memory, so that
a watchdog reads them whatever the rest of its process is doing.
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
    """Two clocks, each written by one side and read by both."""

    def __init__(self, context: BaseContext) -> None:
        # One aligned double each, with one writer: nobody reads half of it.
        self._lease_until = context.RawValue("d", math.inf)
        self._progressed_at = context.RawValue("d", time.monotonic())

    @property
    def lease_until(self) -> float:
        """Parent: when the work has to be over, unless the lease is renewed before; infinite while there is none."""
        return float(self._lease_until.value)

    @lease_until.setter
    def lease_until(self, moment: float) -> None:
        self._lease_until.value = moment

    @property
    def seconds_without_progress(self) -> float:
        return time.monotonic() - float(self._progressed_at.value)

    def mark_progress(self) -> None:
        """Child: a step is done, a run prepared or its outcome committed. Parent: the child got something to do."""
        self._progressed_at.value = time.monotonic()

    @contextmanager
    def following(self, count: Callable[[], int]) -> Iterator[None]:
        """Child: meanwhile, something that is counted elsewhere is progress whenever the count changes.

        A thread reads it, so that nothing is called between the steps of an epoch.
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
