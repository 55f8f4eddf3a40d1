"""Threads for work that must not queue behind the endpoints, which share one pool of threads for the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")


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
