"""Threads for work that must not queue behind the endpoints, which share one pool of threads for the database."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")

# A thread that computes in Python lends the interpreter to another one after this time. At Python's own 5 ms, the event
# loop waits for a thread that digitizes pictures up to 5 ms each time that it has itself let go: twice a prediction.
SWITCH_SECONDS = 0.0001


def lend_soon() -> None:
    """Make threads of this process that compute hand the interpreter to a waiting one after `SWITCH_SECONDS`."""
    sys.setswitchinterval(SWITCH_SECONDS)


class Lane:
    """A number of threads that no other work takes.

    Args:
        num_threads: Number of calls that run at once; further calls wait without a thread.
    """

    def __init__(self, num_threads: int) -> None:
        self._limiter = CapacityLimiter(num_threads)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(function, *arguments, limiter=self._limiter)


class Lanes:
    """The lanes of one event loop."""

    def __init__(self) -> None:
        self.readiness = Lane(2)
        self.champion = Lane(1)
        self.inference = Lane(max(2, os.cpu_count() or 1))
        self.loading = Lane(1)  # models are loaded one by one
        self.pictures = Lane(1)  # one large picture at a time is in memory
