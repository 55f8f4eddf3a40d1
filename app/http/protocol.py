"""uvicorn's HTTP protocol, stricter about framing (RFC 9112) and with limits on what a client can make it hold.

This module limits head, time, connections and unread responses; the application limits bodies (`app.http.body_limit`).
uvicorn with httptools does not limit them by default. A request's meaning never depends on how TCP splits its bytes.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httptools
import uvicorn
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.caching import cache_short
from app.http import problem
from app.http.connection_limits import ConnectionLimits

MAX_PIPELINED = 16  # requests that wait for an earlier response on the same connection

VERSIONS = ("1.0", "1.1")
# Host and port of RFC 3986, 3.2.2 and 3.2.3, with the zone of RFC 6874.
_HOST = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[[0-9a-fA-F:.]+(%[\w.~%-]+)?\])(:\d*)?")
_HTTP2_PREFACE = "Pause on PRI/Upgrade"  # llhttp's error for the bytes that begin an HTTP/2 connection


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration, with the limits of `BoundedProtocol`."""

    def __init__(
        self,
        app: str | ASGI3Application,
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
    """One connection of a client."""

    config: BoundedConfig

    def __init__(
        self,
        config: BoundedConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = self._new_parser()
        self._limits = ConnectionLimits(
            self.loop.time(),
            max_header_bytes=config.max_header_bytes,
            max_body_bytes=config.max_body_bytes,
            timeout_seconds=config.timeout_seconds,
        )
        self._answering: RequestResponseCycle | None = None
        self._has_head = False  # whether `cycle` belongs to the request that is being received
        self._last_words: bytes | None = None  # sent after the responses to earlier requests; the connection then ends
        self._check_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.config.max_connections:
            self._refuse(503, "too-many-connections", "There are too many connections; try again later.")
            return
        self._schedule_check()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._check_timer is not None:
            self._check_timer.cancel()
        self.pipeline.clear()
        if self._answering is not None:  # uvicorn itself tells only the request that came last
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        self._limits.count_data(len(data))
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            if not self._is_over:
                self._refuse_malformed(error)
        if self._limits.is_mostly_framing and not self._is_over:
            self._refuse_head()

    def _parse(self, data: bytes) -> None:
        """Feed the parser and ignore any `Upgrade`, as a server may (RFC 9110, 7.8).

        llhttp would treat everything after such a head as another protocol's, and the request's body as a request. So
        the head is parsed again without that header.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if self._is_over:
                    return
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = self._new_parser()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # A request after one that closes the connection is no error and gets no response. A request of another
        # HTTP version gets a response that says so.
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_version=True)
        return parser

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._has_head = False
        self._limits.begin_request(self.loop.time())

    def on_headers_complete(self) -> None:
        if self._is_over:
            return
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            return  # `_parse` feeds the head again
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            return
        if self._limits.may_be_too_large_a_head and self._head_bytes() > self.config.max_header_bytes:
            self._refuse_head()
            return
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            self._refuse_version(version)
            return
        if (wrong := self._find_wrong(version)) is not None:
            self._refuse(400, "malformed-request", wrong)
            return
        self._has_head = True
        super().on_headers_complete()
        self.headers = []  # trailers go there and are ignored: a request has the headers of its head

    def _find_wrong(self, version: str) -> str | None:
        """Return what is wrong in the head by RFC 9112, though llhttp accepts it; None: nothing."""
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or version == "1.1"):
            return f"A request has one Host header (RFC 9112, 3.2); this one has {len(hosts) or 'none'}."
        if hosts and not _is_host(hosts[0]):
            return "The Host header is not a name or an address, with or without a port."
        if self.parser.should_upgrade():  # the method is CONNECT: other upgrades were ignored before
            return "This service is no proxy: it opens no tunnels (CONNECT)."
        if version == "1.0" and any(name == b"transfer-encoding" for name, _ in self.headers):
            return "HTTP/1.0 knows no Transfer-Encoding."
        return None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _without_chunks(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        if self._is_over:
            return
        self._limits.count_body(len(body))
        if self.cycle.response_complete:
            self._limits.count_discarded(len(body))
            if self._limits.discards_too_much:
                self.transport.abort()
                return
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_over or not self._has_head:
            return
        self._limits.end_request()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._last_words is not None and not self.pipeline and not self.transport.is_closing():
            self.transport.write(self._last_words)
            self.transport.close()
        super().on_response_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it may have disconnected, or wait for its responses; only a write reveals which.

        Returns:
            Whether there are responses to be sent.
        """
        if self._limits.has_part_of_a_request:
            self._refuse(400, "malformed-request", "The request ended in the middle.")
        if self._answering is None or self._answering.response_complete:
            return False
        if self._last_words is None:
            self._last_words = b""
        for cycle in (self._answering, *(waiting for waiting, _ in self.pipeline)):
            _tell_half_closed(cycle.scope["state"])
        return True

    def shutdown(self) -> None:
        """The server stops: end the streams, which would never end by themselves."""
        end_streams = self.app_state.get("end_streams")
        if end_streams is not None:
            end_streams()
        super().shutdown()

    @property
    def _is_over(self) -> bool:
        """Whether bytes that arrive now are ignored."""
        return self._last_words is not None or self.transport.is_closing()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _refuse_head(self) -> None:
        self._refuse(431, "head-too-large", "The request's head is larger than this service takes.")

    def _refuse_malformed(self, error: httptools.HttpParserError) -> None:
        if str(error) == _HTTP2_PREFACE:
            self._refuse_version("2.0")
        else:
            self._refuse(400, "malformed-request", "This is not an HTTP request that can be understood.")

    def _refuse_version(self, version: str) -> None:
        detail = f"This service speaks HTTP/1.1 and HTTP/1.0, not HTTP/{version}."
        self._refuse(505, "http-version-not-supported", detail)

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        """Respond without the application, after earlier responses, and close; a response that has begun is cut off."""
        body = problem.write("/", status, slug, detail).encode()
        head = f"content-type: {problem.MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        answer = STATUS_LINE[status] + head.encode() + body
        is_its_turn = self._answering is None or self._answering.response_complete
        if self._has_head and self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()  # the newest request: this is its only response
        elif self._has_head and self._answering is self.cycle:
            is_its_turn = True
            if self.cycle.response_started:
                answer = b""
        if is_its_turn:
            self.transport.write(answer)
            self.transport.close()
        else:
            self._last_words = answer

    def _schedule_check(self) -> None:
        self._check_timer = self.loop.call_later(self.config.timeout_seconds / 4, self._check)

    def _check(self) -> None:
        """Check at intervals whether the client is too slow."""
        now = self.loop.time()
        if self.flow.read_paused:
            self._limits.note_paused(now)
        self._limits.note_unsent(now, self.transport.get_write_buffer_size())
        if self._limits.leaves_unread(now):
            self.transport.abort()
            return
        if self._limits.is_late(now) and not self._is_over:
            self._give_up()
        self._schedule_check()

    def _give_up(self) -> None:
        if self._limits.has_part_of_a_request:
            self._refuse(408, "request-timeout", "The request took too long to arrive.")
        else:
            self.transport.close()  # the client has never sent anything


@cache_short
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.strip()) is not None


def _without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Wrap an application for HTTP/1.0, where a response without a length ends with the connection."""

    async def answer(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_plain(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.start":
                cycle.chunked_encoding = False
            elif message["type"] == "http.response.body":
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return answer


def _tell_half_closed(state: dict[str, Any]) -> None:
    """Tell a stream, which would never end by itself, that its client sends no more (`app.events.stream`)."""
    state["is_half_closed"] = True
    if (on_half_close := state.get("on_half_close")) is not None:
        on_half_close()
