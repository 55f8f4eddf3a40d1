"""Hostile clients against small limits: memory stays bounded, and other clients are served meanwhile."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import Processes, wait_for

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

LIMITS = {
    "DIGITLAB_MAX_BODY_BYTES": str(64 * 2**10),
    "DIGITLAB_MAX_BUFFERED_BYTES": str(2**20),
    "DIGITLAB_MAX_HEADER_BYTES": str(8 * 2**10),
    "DIGITLAB_REQUEST_TIMEOUT_SECONDS": "2",
}
BODY_LIMIT = 64 * 2**10
MAX_GROWTH_BYTES = 24 * 2**20
ENDLESS_BYTES = 200 * 2**20
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture
def limited(idle_processes: Processes) -> Processes:
    idle_processes.start_api(**LIMITS)
    return idle_processes


def connect(limited: Processes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(limited.port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@contextmanager
def bounded_memory(limited: Processes) -> Iterator[None]:
    """Check that the API's memory grows little during the context; the kernel records the peak."""
    assert limited.api is not None
    process = Path(f"/proc/{limited.api.pid}")
    (process / "clear_refs").write_text("5")  # resets the recorded peak
    before = highest_bytes(process)
    yield
    growth = highest_bytes(process) - before
    print(f"memory grew from {before / 2**20:.0f} MB by at most {growth / 2**20:.1f} MB")
    assert growth < MAX_GROWTH_BYTES


def highest_bytes(process: Path) -> int:
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def send_endlessly(connection: socket.socket, head: bytes, part: bytes) -> tuple[int, bytes]:
    """Send until the server closes the connection; return the number of bytes sent and the response."""
    sent = 0
    with suppress(ConnectionError):
        connection.sendall(head)
        while sent < ENDLESS_BYTES:
            connection.sendall(part)
            sent += len(part)
    return sent, received(connection)


def received(connection: socket.socket) -> bytes:
    answer = b""
    with suppress(ConnectionError, TimeoutError):
        while part := connection.recv(65536):
            answer += part
    return answer


def assert_served(limited: Processes) -> None:
    started = time.monotonic()
    assert limited.client.get("/health/live").is_success
    print(f"another client was answered after {(time.monotonic() - started) * 1000:.0f} ms")


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "chunked body": (CHUNKED, b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
    "chunks of one byte": (CHUNKED, b"1\r\n \r\n" * 2000),
    "one chunk extension": (CHUNKED + b"1;", b"x" * 16384),
    "body of a known length": (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 999999999\r\n\r\n",
        b" " * 16384,
    ),
    "body that nobody reads": (
        b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n",
        b" " * 16384,
    ),
    "headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-Y: z\r\n" * 500),
    "one header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Y: ", b"z" * 16384),
    "path": (b"GET /", b"z" * 16384),
    "trailers": (CHUNKED + b"1\r\n \r\n0\r\n", b"X-Y: z\r\n" * 500),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_never_ends_is_ended(limited: Processes, name: str) -> None:
    with bounded_memory(limited), connect(limited) as connection:
        sent, answer = send_endlessly(connection, *ENDLESS[name])
        assert_served(limited)
    print(f"{name}: cut off after {sent:,} bytes; {answer[:60]!r}")
    assert sent < 40 * 2**20  # most of them are in the sockets' buffers


@pytest.mark.parametrize(
    ("request_bytes", "status", "slug"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Y: " + b"z" * 9000 + b"\r\n\r\n", 431, "head-too-large"),
        (b"GET /" + b"z" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "head-too-large"),
        (b"nonsense\r\n\r\n", 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-", 408, "request-timeout"),
        (CHUNKED + b"8000\r\n" + b" " * 0x8000 + b"\r\n9000\r\n" + b" " * 0x9000, 413, "body-too-large"),
    ],
    ids=["header", "path", "nonsense", "slow", "body"],
)
def test_a_client_that_is_cut_off_is_told_why(limited: Processes, request_bytes: bytes, status: int, slug: str) -> None:
    with connect(limited) as connection:
        connection.sendall(request_bytes)
        answer = b""
        with suppress(TimeoutError):
            connection.settimeout(4)
            while part := connection.recv(65536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head.lower()
    problem = json.loads(body)
    assert (problem["type"], problem["status"]) == (f"/problems/{slug}", status)


def test_heads_and_bodies_within_the_limits_are_answered(limited: Processes) -> None:
    many_headers = {f"X-{number}": "y" * 60 for number in range(90)}
    assert limited.client.get("/health/live", headers=many_headers).is_success
    image = json.dumps({"instances": [[[0] * 8] * 8] * 80}).encode()
    assert len(image) < BODY_LIMIT

    def byte_by_byte() -> Iterator[bytes]:
        for place in range(len(image)):
            yield image[place : place + 1]

    headers = {"Content-Type": "application/json"}
    answer = limited.client.post("/predict", content=byte_by_byte(), headers=headers)
    assert answer.json()["type"] == "/problems/no-saved-model"  # the body was read to its end and parsed


def test_five_hundred_idle_and_a_hundred_slow_clients_keep_no_client_waiting(limited: Processes) -> None:
    with bounded_memory(limited), ExitStack() as stack:
        idle = [stack.enter_context(connect(limited)) for _ in range(500)]
        slow = [stack.enter_context(connect(limited)) for _ in range(100)]
        for number, connection in enumerate(slow):
            connection.sendall(CHUNKED if number % 2 else b"GET / HTTP/1.1\r\nHost: ")
        drip(slow, lambda: assert_served(limited), seconds=6)
        for connection in (*idle, *slow):
            connection.settimeout(10)
            received(connection)  # returns at the end of the connection: the server closes all
    assert_served(limited)


def drip(slow: list[socket.socket], meanwhile: Callable[[], None], seconds: float) -> None:
    """Send a byte on each connection every 0.2 s, and call `meanwhile` in between."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for number, connection in enumerate(slow):
            with suppress(ConnectionError):
                connection.sendall(b"1\r\n \r\n" if number % 2 else b"x")
        meanwhile()
        time.sleep(0.2)


def test_bodies_that_are_too_much_together_are_refused_and_make_room(limited: Processes) -> None:
    part = b"f000\r\n" + b" " * 0xF000 + b"\r\n"
    with bounded_memory(limited), ExitStack() as stack:
        unfinished = [stack.enter_context(connect(limited)) for _ in range(40)]
        for connection in unfinished:
            connection.sendall(CHUNKED + part)
        answers = [connection.recv(12) for connection in unfinished[-3:]]
        assert answers == [b"HTTP/1.1 503"] * 3
        assert_served(limited)
    headers = {"Content-Type": "application/json"}

    def is_read() -> bool:
        answer = limited.client.post("/predict", content=b" " * 60_000, headers=headers)
        return bool(answer.json()["type"] == "/problems/no-saved-model")

    assert wait_for(is_read)  # true once the server has noticed that the others are gone


def test_too_many_connections_are_refused_and_leave_room_for_later_ones(idle_processes: Processes) -> None:
    idle_processes.start_api(**LIMITS | {"DIGITLAB_MAX_CONNECTIONS": "20"})
    with ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(connect(idle_processes))
        with connect(idle_processes) as refused:
            assert received(refused).startswith(b"HTTP/1.1 503 ")
    assert wait_for(lambda: idle_processes.client.get("/health/live").is_success)


def test_an_answer_that_no_client_fetches_is_dropped(limited: Processes) -> None:
    with bounded_memory(limited), ExitStack() as stack:
        hoarders = []
        for _ in range(20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", int(limited.port)))
            hoarders.append(connection)
        for connection in hoarders:
            connection.settimeout(0.5)
            with suppress(TimeoutError, ConnectionError):
                for _ in range(300):  # the OpenAPI document is large
                    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    time.sleep(0.005)
        assert_served(limited)
        assert wait_for(lambda: connections_of(limited) <= 3)


def test_requests_that_are_sent_ahead_by_the_thousand_are_not_kept(limited: Processes) -> None:
    with bounded_memory(limited), ExitStack() as stack:
        connections = [stack.enter_context(connect(limited)) for _ in range(20)]
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5000)
        assert_served(limited)
        for connection in connections:
            received(connection)
    with connect(limited) as connection:  # a few requests are answered, in their order
        connection.sendall(
            b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4
        )
        connection.settimeout(2)
        answers = received(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answers) == [b"200", b"404"] * 4


def connections_of(limited: Processes) -> int:
    """Count the sockets that the API holds open: its own and those of clients."""
    assert limited.api is not None
    links = Path(f"/proc/{limited.api.pid}/fd").iterdir()
    count = 0
    for link in links:
        with suppress(FileNotFoundError):
            count += "socket:" in str(link.readlink())
    return count
