"""Clocks that tolerate a wall clock that jumps: they compare it with this process's monotonic clock, which never jumps.

A wall clock jumps when it is set by hand, by a virtual machine that wakes up, or by NTP after a flat battery.
`monotonic` is a parameter everywhere, so that tests pass a clock of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Hashable

MAX_SKEW_SECONDS = 1.0  # a time that is less far ahead of a clock is ordinary skew

Monotonic = Callable[[], float]


class SteadyClock:
    """A wall clock that accepts a forward jump only when the jump has lasted.

    The wall clock's lead over the monotonic clock changes only by jumps. The steady time uses the smallest lead seen
    during at least `window_seconds`, and follows a backward jump at once.

    Args:
        window_seconds: Shortest time for which a forward jump is ignored; the longest is twice as long.
        trusts_first: Whether the first reading is accepted; if not, the time is `-inf` for the first window.
        monotonic: Returns the monotonic time in seconds.
    """

    def __init__(
        self, window_seconds: float, *, trusts_first: bool = True, monotonic: Monotonic = time.monotonic
    ) -> None:
        self._window_seconds = window_seconds
        self._monotonic = monotonic
        self._believed: float | None = None if trusts_first else -math.inf
        self._candidate = math.inf  # the smallest lead since `_since`
        self._since = 0.0

    def now(self, wall: float) -> float:
        """Return the steady time for the wall clock's current reading; both are in seconds since 1970."""
        monotonic = self._monotonic()
        lead = wall - monotonic
        if self._believed is None:
            self._believed = lead
        if self._candidate == math.inf:
            self._since = monotonic
        self._candidate = min(self._candidate, lead)
        if monotonic - self._since >= self._window_seconds:
            self._believed = self._candidate
            self._candidate, self._since = lead, monotonic
        self._believed = min(self._believed, lead)
        return monotonic + self._believed


class Sightings:
    """Measures how long each key has kept the same value, by this process's monotonic clock."""

    def __init__(self, monotonic: Monotonic = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def seconds_unchanged(self, key: Hashable, value: object) -> float:
        now = self._monotonic()
        known = self._seen.get(key)
        if known is None or known[0] != value:
            self._seen[key] = known = (value, now)
        return now - known[1]

    def keep_only(self, keys: Collection[Hashable]) -> None:
        """Forget all other keys."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}
