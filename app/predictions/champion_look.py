"""A look for the first champion: a client that has seen a run succeed can predict at once."""

from __future__ import annotations

import asyncio
import time

from app.http.threads import Lane
from app.predictions.predictor import Predictor

PAUSE_SECONDS = 0.05  # between the beginnings of two looks


class ChampionLook:
    """Looks into the database while no champion is in memory, once for all requests that wait.

    A request waits for a look that begins after it came: one that was under way may have missed what its client has
    seen. Belongs to one event loop.
    """

    def __init__(self, predictor: Predictor, lane: Lane) -> None:
        self._predictor = predictor
        self._lane = lane
        self._next: asyncio.Task[None] | None = None  # has not begun
        self._turn = asyncio.Lock()
        self._began_at = -PAUSE_SECONDS

    async def wait(self) -> None:
        """Returns when there is a champion in memory, or there was none in the database."""
        if self._predictor.has_champion:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._look())
        await asyncio.shield(self._next)  # others wait for it too

    async def _look(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._began_at + PAUSE_SECONDS - time.monotonic())
            self._next = None
            self._began_at = time.monotonic()
            await self._lane.run(self._predictor.find_first_champion)
