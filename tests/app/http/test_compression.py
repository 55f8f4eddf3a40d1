"""gzip: large JSON responses to GET are compressed for clients that accept it, and nothing else is."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.http.compression import MAX_BYTES_IN_LOOP, MIN_BYTES, Compression
from app.main import create_app
from app.settings import Settings
from tests.conftest import TestClient

JSON = [(b"content-type", b"application/json")]
GZIP = b"gzip"
LARGE = json.dumps(list(range(20_000))).encode()
assert len(LARGE) > MAX_BYTES_IN_LOOP


def respond(
    accept: bytes | None,
    *chunks: bytes,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] = JSON,
    status: int = 200,
) -> tuple[dict[str, str], bytes]:
    """Send a response in these pieces through the layer; return its headers and its body."""
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        lengths = [(b"content-length", str(len(chunks[0])).encode())] if len(chunks) == 1 else []
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *lengths]})
        for number, chunk in enumerate(chunks, 1):
            await send({"type": "http.response.body", "body": chunk, "more_body": number < len(chunks)})

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    asked = [] if accept is None else [(b"accept-encoding", accept)]
    scope = {"type": "http", "method": method, "path": "/", "headers": asked}
    asyncio.run(Compression(app)(scope, receive, send))
    start, *bodies = sent
    assert [each["type"] for each in bodies] == ["http.response.body"] * len(chunks)
    assert start["status"] == status
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(found) == len(start["headers"]), "a header came twice"
    return found, b"".join(each["body"] for each in bodies)


@pytest.mark.parametrize("content", [b"[" + b"0, " * 2000 + b"0]", LARGE])
def test_a_large_answer_is_compressed_and_says_so(content: bytes) -> None:
    headers, body = respond(GZIP, content)
    assert gzip.decompress(body) == content
    assert len(body) < len(content) / 2
    assert headers["content-length"] == str(len(body))
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept-Encoding")
    assert respond(GZIP, content)[1] == body, "the same answer has the same bytes"


def test_caches_learn_that_an_answer_depends_on_the_encoding_also_if_it_is_not_compressed() -> None:
    headers, body = respond(None, LARGE)
    assert (headers["vary"], body) == ("Accept-Encoding", LARGE)
    assert "content-encoding" not in headers
    headers, _ = respond(GZIP, LARGE, headers=[*JSON, (b"vary", b"Accept")])
    assert headers["vary"] == "Accept, Accept-Encoding"


def test_a_strong_etag_becomes_a_weak_one() -> None:
    for etag, compressed in ((b'"abc"', 'W/"abc"'), (b'W/"abc"', 'W/"abc"')):
        headers = [*JSON, (b"etag", etag)]
        assert respond(GZIP, LARGE, headers=headers)[0]["etag"] == compressed
        assert respond(None, LARGE, headers=headers)[0]["etag"] == etag.decode()


@pytest.mark.parametrize(
    ("accept", "is_compressed"),
    [
        (b"gzip, deflate, br", True),
        (b"GZIP;q=0.5", True),
        (b"*", True),
        (b"br, *;q=0.1", True),
        (b"x-gzip", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"identity, gzip;q=0.5", False),
        (b"deflate, br", False),
        (b"gzippy", False),
        (b"", False),
        (b",;q=1,\xff", False),
    ],
)
def test_a_client_says_whether_it_wants_gzip(accept: bytes, is_compressed: bool) -> None:
    headers, body = respond(accept, LARGE)
    assert ("content-encoding" in headers) is is_compressed
    assert (gzip.decompress(body) if is_compressed else body) == LARGE


@pytest.mark.parametrize(
    "options",
    [
        {"method": "POST"},
        {"headers": [(b"content-type", b"text/event-stream")]},
        {"headers": [(b"content-type", b"image/png")]},
        {"headers": [(b"content-type", b"application/octet-stream")]},
        {"headers": [*JSON, (b"content-encoding", b"br")]},
    ],
)
def test_what_is_not_json_for_get_stays_as_it_is(options: dict[str, Any]) -> None:
    headers, body = respond(GZIP, LARGE, **options)
    assert body == LARGE
    assert headers.get("content-encoding") in (None, "br")
    assert "vary" not in headers


def test_a_small_answer_and_one_in_pieces_stay_as_they_are() -> None:
    small = b" " * (MIN_BYTES - 1)
    assert respond(GZIP, small) == ({"content-type": "application/json", "content-length": str(len(small))}, small)
    headers, body = respond(GZIP, LARGE[:9000], LARGE[9000:])
    assert (headers, body) == ({"content-type": "application/json"}, LARGE)
    assert respond(GZIP, b"", status=304)[1] == b""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, migrated_file: Any) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("data")
    (folder / "digitlab.db").write_bytes(migrated_file.read_bytes())
    with TestClient(create_app(Settings(data_dir=folder))) as client:
        yield client


def test_the_service_compresses_its_lists_and_head_tells_the_same(client: TestClient) -> None:
    got = client.get("/openapi.json", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/openapi.json", headers={"Accept-Encoding": "identity"})
    assert got.headers["content-encoding"] == "gzip"
    assert got.json() == plain.json()
    assert "content-encoding" not in plain.headers
    assert int(got.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    for encoding, response in (("gzip", got), ("identity", plain)):
        head = client.head("/openapi.json", headers={"Accept-Encoding": encoding})
        assert head.content == b""
        for name in ("content-length", "content-encoding", "vary", "content-type"):
            assert head.headers.get(name) == response.headers.get(name), name


def test_a_prediction_and_an_error_pass_uncompressed(client: TestClient) -> None:
    for response in (client.post("/predict", content=b"[" * 9000), client.get("/runs", params={"q" * 9000: "x"})):
        assert response.status_code >= 400
        assert "content-encoding" not in response.headers
