"""Where a request begins and ends (RFC 9112), over real sockets, for every way of cutting its bytes into segments."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from app.http.protocol import BoundedConfig

PATIENCE_SECONDS = 60
HOST = b"Host: localhost\r\n"
LENGTH_2 = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LIVE = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /runs HTTP/1.1\r\n" + HOST
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@dataclass
class Echo:
    """An application that records its requests and responds with their bodies, without a length, as streams do."""

    port: int = 0
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        if scope["path"] == "/slow":
            await asyncio.sleep(0.2)
        self.asked.append((scope["method"], scope["path"], body))
        self.headers += [name for name, _ in scope["headers"]]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-path", scope["path"].encode())]})
        for part in (b"answer ", b"to ", body):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})


@pytest.fixture(scope="module")
def server() -> Iterator[Echo]:
    echo = Echo()
    limits: dict[str, Any] = {"max_header_bytes": 8192, "max_body_bytes": 2**16, "max_connections": 20}
    config = BoundedConfig(
        echo, timeout_seconds=10, ws="none", log_config=None, access_log=False, lifespan="off", **limits
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo.port = listener.getsockname()[1]
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        yield echo
        running.should_exit = True
        thread.join()


@pytest.fixture
def echo(server: Echo) -> Echo:
    server.asked.clear()
    server.headers.clear()
    return server


def exchange(echo: Echo, sent: bytes, cut: str) -> bytes:
    """Send bytes in segments, close the sending side, and return all that the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=PATIENCE_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head, end, rest = sent.partition(b"\r\n\r\n")
        segments = {
            "at once": [sent],
            "after the head": [head + end, rest],
            "byte by byte": [sent[place : place + 1] for place in range(len(sent))],
        }[cut]
        with suppress(ConnectionError):
            for segment in segments:
                connection.sendall(segment)
                time.sleep(0.05 if cut == "after the head" else 0.0005)
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answer)]


RUN = ("POST", "/runs", b"{}")
NEXT = ("GET", "/next", b"")
Asked = list[tuple[str, str, bytes]]

REFUSED: dict[str, tuple[bytes, int]] = {
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host, and a body": (b"POST / HTTP/1.1\r\n" + LENGTH_2 + b"\r\n{}", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", 400),
    "the same host twice": (b"GET / HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n", 400),
    "two hosts in HTTP/1.0": (b"GET / HTTP/1.0\r\nHost: localhost\r\nHost: other\r\n\r\n", 400),
    "a list of hosts": (b"GET / HTTP/1.1\r\nHost: localhost, other\r\n\r\n", 400),
    "a path in host": (b"GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400),
    "a user in host": (b"GET / HTTP/1.1\r\nHost: me@localhost\r\n\r\n", 400),
    "an absolute target without host": (b"GET http://localhost/ HTTP/1.1\r\n\r\n", 400),
    "2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "2.0 with a body": (b"POST /runs HTTP/2.0\r\n" + HOST + LENGTH_2 + b"\r\n{}", 505),
    "3.0": (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "half a version": (b"GET / HTTP/2\r\n" + HOST + b"\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "a length and chunks": (POST + LENGTH_2 + CHUNKED + b"\r\n0\r\n\r\n", 400),
    "two lengths": (POST + LENGTH_2 + b"Content-Length: 3\r\n\r\n{} ", 400),
    "a tunnel": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 400),
    "a tunnel with a body": (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + LENGTH_2 + b"\r\n{}", 400),
    "an unfinished body": (POST + b"Content-Length: 200\r\n\r\n{}", 400),
}


@pytest.mark.parametrize("cut", ["at once", "byte by byte"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_and_what_follows_is_not_executed(echo: Echo, name: str, cut: str) -> None:
    sent, status = REFUSED[name]
    answer = exchange(echo, sent if "unfinished" in name else sent + LIVE, cut)
    assert statuses(answer) == [status]
    assert b"application/problem+json" in answer
    assert echo.asked == []


ANSWERED: dict[str, tuple[bytes, Asked]] = {
    "HTTP/1.0 without host": (b"GET /next HTTP/1.0\r\n\r\n", [NEXT]),
    "an empty host": (b"GET /next HTTP/1.1\r\nHost:\r\n\r\n", [NEXT]),
    "an address": (b"GET /next HTTP/1.1\r\nHost: [::1]:8000 \r\n\r\n", [NEXT]),
    "h2c": (POST + H2C + LENGTH_2 + b"\r\n{}" + LIVE, [RUN, NEXT]),
    "h2c, twice, chunked": ((POST + H2C + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n") * 2 + LIVE, [RUN, RUN, NEXT]),
    "websocket": (
        POST + b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n" + LENGTH_2 + b"\r\n{}" + LIVE,
        [RUN, NEXT],
    ),
    "an upgrade without a body": (b"GET /next HTTP/1.1\r\n" + HOST + H2C + b"\r\n" + LIVE, [NEXT, NEXT]),
    "an upgrade in HTTP/1.0": (b"POST /runs HTTP/1.0\r\n" + HOST + H2C + LENGTH_2 + b"\r\n{}" + LIVE, [RUN]),
    "a body that is a request": (
        POST + b"Connection: Upgrade\r\nUpgrade: x/1\r\nContent-Length: %d\r\n\r\n" % len(LIVE) + LIVE,
        [("POST", "/runs", LIVE)],
    ),
    "after the last one": (POST + b"Connection: close\r\n" + LENGTH_2 + b"\r\n{}" + LIVE, [RUN]),
}


@pytest.mark.parametrize("cut", ["at once", "after the head", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERED)
def test_an_upgrade_is_ignored_and_the_body_is_the_requests(echo: Echo, name: str, cut: str) -> None:
    sent, asked = ANSWERED[name]
    answer = exchange(echo, sent, cut)
    assert echo.asked == asked
    assert statuses(answer) == [200] * len(asked)
    assert b"upgrade" not in echo.headers


@pytest.mark.parametrize("cut", ["at once", "after the head", "byte by byte"])
def test_trailers_are_no_headers(echo: Echo, cut: str) -> None:
    trailers = b"Authorization: Bearer key\r\nHost: other\r\nExpect: 100-continue\r\n\r\n"
    answer = exchange(echo, POST + CHUNKED + b"X-Empty:\r\n\r\n2\r\n{}\r\n0\r\n" + trailers + LIVE, cut)
    assert statuses(answer) == [200, 200]
    assert echo.asked == [RUN, NEXT]
    assert echo.headers == [b"host", b"transfer-encoding", b"x-empty", b"host"]


@pytest.mark.parametrize("cut", ["at once", "byte by byte"])
@pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", POST + CHUNKED + b"\r\nx\r\n"])
def test_requests_before_a_refused_one_are_answered_first(echo: Echo, wrong: bytes, cut: str) -> None:
    answer = exchange(echo, LIVE + LIVE + wrong + LIVE, cut)
    assert statuses(answer) == [200, 200, 505 if b"2.0" in wrong else 400]
    assert echo.asked == [NEXT, NEXT]


def test_an_answer_to_http_1_0_is_plain_and_ends_with_the_connection(echo: Echo) -> None:
    head, _, body = exchange(echo, b"POST /runs HTTP/1.0\r\n" + LENGTH_2 + b"\r\n{}", "at once").partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body == b"answer to {}"


@pytest.mark.parametrize("number", [1, 3])
def test_a_client_that_sends_no_more_gets_its_answers(echo: Echo, number: int) -> None:
    slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert statuses(exchange(echo, slow * number, "at once")) == [200] * number
    assert exchange(echo, b"", "at once") == b""
