"""Looks for the first champion on demand, so that a client that has seen a run succeed can predict at once."""

from __future__ import annotations

import asyncio
import time

from app.http.threads import Lane
from app.predictions.predictor import Predictor

PAUSE_SECONDS = 0.05  # shortest time from the start of one look-up to the next


class ChampionLook:
    """Looks for a champion in the database while none is in memory, once for all waiting requests.

    A request waits for a look-up that starts after the request arrived: an earlier one may have missed the run that the
    client has seen succeed. An instance belongs to one event loop.
    """

    def __init__(self, predictor: Predictor, lane: Lane) -> None:
        self._predictor = predictor
        self._lane = lane
        self._next: asyncio.Task[None] | None = None  # not started yet
        self._turn = asyncio.Lock()
        self._began_at = -PAUSE_SECONDS

    async def wait(self) -> None:
        """Return when a champion is in memory, or the database had none."""
        if self._predictor.has_champion:
            return
        if self._next is None:
            self._next = asyncio.create_task(self._look())
        await asyncio.shield(self._next)  # other requests wait for this task too

    async def _look(self) -> None:
        async with self._turn:
            await asyncio.sleep(self._began_at + PAUSE_SECONDS - time.monotonic())
            self._next = None
            self._began_at = time.monotonic()
            await self._lane.run(self._predictor.find_first_champion)
