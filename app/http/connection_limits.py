"""What one connection may take: bytes around bodies, bodies after their responses, and time. Knows no sockets."""

from __future__ import annotations

# A one-byte chunk carries five bytes of framing. More than eight framing bytes per body byte is treated as an attack.
FRAMING_BYTES_PER_BODY_BYTE = 8
MIN_BODY_BYTES_PER_SECOND = 1_000
# Bytes of a body that arrive after its response are discarded, so that the client can read the response. The connection
# ends after so many times the largest body.
DISCARDED_BODIES = 4


class ConnectionLimits:
    """Counts what a client sends and leaves unread.

    Args:
        now: Seconds of the event loop's clock, as everywhere below.
        max_header_bytes: Largest request head, in bytes.
        max_body_bytes: Largest request body, in bytes.
        timeout_seconds: Longest time for a request without its body, and for a response of which the client reads
            nothing. A body adds a second for each `MIN_BODY_BYTES_PER_SECOND`.
    """

    def __init__(self, now: float, *, max_header_bytes: int, max_body_bytes: int, timeout_seconds: float) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._timeout_seconds = timeout_seconds
        self._framing_bytes = 0  # of the request that is being received: everything that is not body
        self._body_bytes = 0
        self._discarded_bytes = 0
        self._receiving_since: float | None = now  # None: the last request has been received to its end
        self._unsent_bytes = 0
        self._unsent_since = now

    def count_data(self, num_bytes: int) -> None:
        """Bytes have come; `count_body` says which of them are body."""
        self._framing_bytes += num_bytes

    def count_body(self, num_bytes: int) -> None:
        self._framing_bytes -= num_bytes
        self._body_bytes += num_bytes

    def count_discarded(self, num_bytes: int) -> None:
        """A body goes on after the response to its request."""
        self._discarded_bytes += num_bytes

    def begin_request(self, now: float) -> None:
        if self._receiving_since is None:
            self._receiving_since = now

    def end_request(self) -> None:
        self._framing_bytes = self._body_bytes = self._discarded_bytes = 0
        self._receiving_since = None

    @property
    def may_be_too_large_a_head(self) -> bool:
        """Whether the head may be too large: what was read at once may hold the head and more."""
        return self._framing_bytes > self._max_header_bytes

    @property
    def is_mostly_framing(self) -> bool:
        """Whether the request's head, chunk headers and trailers are out of proportion to its body."""
        return self._framing_bytes > self._max_header_bytes + FRAMING_BYTES_PER_BODY_BYTE * self._body_bytes

    @property
    def discards_too_much(self) -> bool:
        return self._discarded_bytes > DISCARDED_BODIES * self._max_body_bytes

    @property
    def has_part_of_a_request(self) -> bool:
        return self._receiving_since is not None and (self._framing_bytes > 0 or self._body_bytes > 0)

    def note_paused(self, now: float) -> None:
        """The server itself does not read: the client is not to blame for the time."""
        if self._receiving_since is not None:
            self._receiving_since = now

    def note_unsent(self, now: float, num_bytes: int) -> None:
        """Note how many bytes of responses are unsent; fewer than before: the client reads, its time starts anew."""
        if not num_bytes or num_bytes < self._unsent_bytes or not self._unsent_bytes:
            self._unsent_since = now
        self._unsent_bytes = num_bytes

    def leaves_unread(self, now: float) -> bool:
        """Whether the client has read nothing of its responses for too long."""
        return self._unsent_bytes > 0 and now - self._unsent_since > self._timeout_seconds

    def is_late(self, now: float) -> bool:
        """Whether the request is slower than the timeout and `MIN_BODY_BYTES_PER_SECOND` allow."""
        patience = self._timeout_seconds + self._body_bytes / MIN_BODY_BYTES_PER_SECOND
        return self._receiving_since is not None and now > self._receiving_since + patience
