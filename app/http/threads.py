"""Threads of their own for what must not wait: endpoints that read or write the database share one pool of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

T = TypeVar("T")


class Lane:
    """A number of threads that nobody else takes.

    Args:
        num_threads: More calls wait for one of these, and hold no thread.
    """

    def __init__(self, num_threads: int) -> None:
        self._limiter = CapacityLimiter(num_threads)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        return await to_thread.run_sync(function, *arguments, limiter=self._limiter)


class Lanes:
    """Of one event loop."""

    def __init__(self) -> None:
        self.readiness = Lane(2)
        self.champion = Lane(1)
        self.inference = Lane(max(2, os.cpu_count() or 1))
        self.loading = Lane(1)  # models are loaded one by one
