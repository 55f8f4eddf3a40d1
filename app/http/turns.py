"""Turns for long requests: few run at a time, a bounded number waits, and a waiting one holds no thread and no data."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import Unavailable

RETRY_SECONDS = 2


@dataclass(frozen=True)
class Queue:
    """A kind of request that takes turns, and its limits."""

    what: str  # plural noun for error messages, as in `pictures`
    slug: str
    at_once: int
    max_waiting: int
    setting: str  # name of the setting that holds `max_waiting`


class Turns:
    """Gives turns to requests, first come, first served. An instance belongs to one event loop."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._num_taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @asynccontextmanager
    async def take(self, receive: Receive) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Args:
            receive: ASGI `receive` of the request, used to notice a disconnect; a body that was not read is dropped.

        Raises:
            Unavailable: Too many requests wait already, or the service is shutting down.
            ClientDisconnect: The client disconnected before its turn.
        """
        if self._num_taken < self._queue.at_once and not self._waiting and not self._is_closed:
            self._num_taken += 1
        else:
            await self._wait(receive)  # another request hands its turn over, so `_num_taken` does not change
        try:
            yield
        finally:
            self._hand_on()

    def close(self) -> None:
        """Reject the requests that wait, and all later ones."""
        self._is_closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_shutting_down())

    async def _wait(self, receive: Receive) -> None:
        if self._is_closed:
            raise _shutting_down()
        if len(self._waiting) >= self._queue.max_waiting:
            queue = self._queue
            raise Unavailable(
                f"{queue.max_waiting} {queue.what} are waiting for their turn already, and more may not "
                f"({queue.setting}={queue.max_waiting}); try again.",
                slug=queue.slug,
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({turn, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise ClientDisconnect
            turn.result()
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_on()  # the turn came, but the request is gone
            with suppress(ValueError):
                self._waiting.remove(turn)
            raise
        finally:
            leaving.cancel()

    def _hand_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._num_taken -= 1


async def _left(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _shutting_down() -> Unavailable:
    return Unavailable("The service is shutting down.", headers={"Retry-After": str(RETRY_SECONDS)})
