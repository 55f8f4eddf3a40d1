"""uvicorn's HTTP protocol with bounds on what a client can make it hold: head, time, connections, unread answers.

What belongs to a body, the application bounds (`app.body_limit`). uvicorn itself bounds none of these with httptools.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app import problem

# A chunk of one byte comes with five of its own; who sends more than this around a body is up to no good.
FRAMING_BYTES_PER_BODY_BYTE = 8
MIN_BODY_BYTES_PER_SECOND = 1_000
# What a client goes on to send after its answer is thrown away, so that it gets to read the answer. Not for ever.
DISCARDED_BODIES = 4
MAX_PIPELINED = 16  # requests that wait for the answer to another one on the same connection


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration with the bounds."""

    def __init__(
        self,
        app: str,
        *,
        max_header_bytes: int,
        max_body_bytes: int,
        max_connections: int,
        timeout_seconds: float,
        **options: Any,
    ) -> None:
        super().__init__(app, http=BoundedProtocol, **options)
        self.max_header_bytes = max_header_bytes
        self.max_body_bytes = max_body_bytes
        self.max_connections = max_connections
        self.timeout_seconds = timeout_seconds


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    config: BoundedConfig

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._framing_bytes = 0  # of the request that is being received: all that is not body
        self._body_bytes = 0
        self._discarded_bytes = 0
        self._receiving_since: float | None = None  # None: a request has been received to its end
        self._answering: RequestResponseCycle | None = None
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._check_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            self._refuse(503, "too-many-connections", "There are too many connections; try again later.")
            return
        self._receiving_since = self.loop.time()
        self._schedule_check()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
        self.pipeline.clear()
        if self._answering is not None:  # uvicorn itself tells the request that came last
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > self._max_framing_bytes and not self.transport.is_closing():
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            return
        # A large read may hold the head and more: then the head alone counts.
        if self._framing_bytes > self.config.max_header_bytes and self._head_bytes() > self.config.max_header_bytes:
            self._refuse_head()
            return
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        self._framing_bytes -= len(body)
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > DISCARDED_BODIES * self.config.max_body_bytes:
                self.transport.abort()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        self._framing_bytes = self._body_bytes = self._discarded_bytes = 0
        self._receiving_since = None
        super().on_message_complete()

    def shutdown(self) -> None:
        """The server stops: answers that would go on for ever end now."""
        end_streams = self.app_state.get("end_streams")
        if end_streams is not None:
            end_streams()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002, what uvicorn would say
        self._refuse(400, "malformed-request", "This is not an HTTP request that can be understood.")

    @property
    def _max_framing_bytes(self) -> int:
        return self.config.max_header_bytes + FRAMING_BYTES_PER_BODY_BYTE * self._body_bytes

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, "head-too-large", "The request's head is larger than this service takes.")

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer without the application, and close; where an answer has begun, close alone."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = problem.write("/", status, slug, detail).encode()
            head = f"content-type: {problem.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()

    def _schedule_check(self) -> None:
        self._check_timer = self.loop.call_later(self.config.timeout_seconds / 4, self._check)

    def _check(self) -> None:
        """Now and then: is this client too slow?"""
        now = self.loop.time()
        if self.flow.read_paused and self._receiving_since is not None:
            self._receiving_since = now  # it is us who do not read
        self._note_unsent(now)
        if self._unsent_bytes and now - self._unsent_since > self.config.timeout_seconds:
            self.transport.abort()
            return
        is_late = self._receiving_since is not None and now > self._receiving_since + self._patience
        if is_late and not self.transport.is_closing():
            self._give_up()
        self._schedule_check()

    @property
    def _patience(self) -> float:
        return self.config.timeout_seconds + self._body_bytes / MIN_BODY_BYTES_PER_SECOND

    def _note_unsent(self, now: float) -> None:
        """Whether the client has read anything of its answer lately."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if not unsent_bytes or unsent_bytes < self._unsent_bytes or not self._unsent_bytes:
            self._unsent_since = now
        self._unsent_bytes = unsent_bytes

    def _give_up(self) -> None:
        if self._framing_bytes or self._body_bytes:
            self._refuse(408, "request-timeout", "The request took too long to arrive.")
        else:
            self.transport.close()  # it has never sent anything
