"""What does not believe a wall clock that jumps: it is compared with this process's monotonic clock, which never does.

Clocks are set by hand, by a virtual machine that wakes up, by NTP after a flat battery. `monotonic` is a parameter
everywhere, so that tests have a clock of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Hashable

MAX_SKEW_SECONDS = 1.0  # what lies ahead of a clock by less needs no explanation

Monotonic = Callable[[], float]


class SteadyClock:
    """A wall clock in which a jump ahead counts only when it has lasted.

    The wall clock's lead over the monotonic one changes by jumps alone. The steady time goes by the smallest lead of
    all that were seen for at least `window_seconds`; back, it follows at once.

    Args:
        window_seconds: How long a jump ahead is disbelieved, at least; at most twice as long.
        trusts_first: Whether the first look is believed; if not, the time is `-inf` for the first window.
        monotonic: Seconds.
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
        """The steady time, for what the wall clock says at this moment; both in seconds since 1970."""
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
    """For how long each thing has been seen with the same value, by the monotonic clock of the one who looks."""

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
        """Forget all others."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}
