"""Requests that a browser sends on behalf of a page of another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.conftest import AssertProblem, TestClient

ADMIN = "writer-0123456789"
LISTED = "http://localhost:5173"


@pytest.fixture
def options() -> dict[str, Any]:
    """Settings of the service besides its folder and CORS origins; a test may override them."""
    return {}


@pytest.fixture
def client(tmp_path: Path, migrated_file: Path, options: dict[str, Any]) -> Iterator[TestClient]:
    copyfile(migrated_file, tmp_path / "digitlab.db")
    with TestClient(create_app(Settings(data_dir=tmp_path, cors_origins=[LISTED], **options))) as client:
        yield client


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "app.localhost:1", "127.0.0.1", "127.0.0.1:8000", "192.168.1.7",
     "[::1]", "[::1]:8000", "[fe80::1]:80"],
)  # fmt: skip
def test_localhost_and_addresses_are_its_names(client: TestClient, host: str) -> None:
    assert client.get("/runs", headers={"Host": host}).status_code == 200


FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "evil.example@localhost",
    "[::1",
    "ünde.example",
    " ",
]


@pytest.mark.parametrize("host", FOREIGN)
def test_no_other_name_is(client: TestClient, host: str, assert_problem: AssertProblem) -> None:
    for path in ("/runs", "/openapi.json", "/nothing", "/metrics"):
        assert_problem(client.get(path, headers={b"Host": host.encode()}), 421, "unknown-host")
    assert client.get("/v2/models/champion", headers={b"Host": host.encode()}).status_code == 421
    assert client.get("/health/live", headers={b"Host": host.encode()}).status_code == 200  # probes use many names


@pytest.mark.parametrize("options", [{"allowed_hosts": "Digits.example, other.example"}])
def test_names_can_be_allowed(client: TestClient) -> None:
    for host in ("digits.example:80", "other.example.", "localhost"):
        assert client.get("/runs", headers={"Host": host}).status_code == 200, host
    assert client.get("/runs", headers={"Host": "evil.example"}).status_code == 421


@pytest.mark.parametrize("options", [{"allowed_hosts": "*"}, {"host": "evil.example"}])
def test_any_name_can_be_allowed_and_the_one_it_listens_on_is(client: TestClient) -> None:
    assert client.get("/runs", headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [({"api_keys": f"admin:{ADMIN}"}, 200), ({"api_keys": f"admin:{ADMIN}", "allowed_hosts": "digits.example"}, 421)],
)
def test_with_keys_names_are_checked_where_some_are_given(client: TestClient, status: int) -> None:
    headers = {"Host": "evil.example", "Authorization": f"Bearer {ADMIN}"}
    assert client.get("/runs", headers=headers).status_code == status


MAY = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "cross-site", "Origin": LISTED},
    {"Sec-Fetch-Site": "same-site", "Origin": LISTED},
    {"Origin": LISTED},
    {"Origin": "http://localhost"},
    {"Origin": "http://localhost:80"},
    {"Origin": "http://localhost:8000", "Host": "localhost:8000"},
    {"Origin": "https://localhost", "Host": "localhost"},  # behind a proxy that terminates TLS
]
MAY_NOT = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": f"{LISTED}.evil.example"},
    {"Origin": "http://localhost@evil.example"},
    {"Origin": "evil"},
    {"Origin": "http://[::1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8000"},
]
CHANGES = [
    ("POST", "/models/champion/rollback"),
    ("PUT", "/models/champion"),
    ("DELETE", "/models/champion"),
    ("POST", "/runs"),
    ("PATCH", "/runs/x"),
    ("POST", "/runs/x/cancel"),
    ("DELETE", "/runs/x"),
    ("POST", "/sweeps"),
]


@pytest.mark.parametrize("options", [{}, {"api_keys": f"admin:{ADMIN}"}], ids=["open", "keys"])
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_pages_of_other_sites_change_nothing(
    client: TestClient, method: str, path: str, assert_problem: AssertProblem
) -> None:
    key = {"Authorization": f"Bearer {ADMIN}"}
    for headers in MAY_NOT:
        response = client.request(method, path, headers={**key, **headers, "Content-Type": "text/plain"}, content="x")
        assert_problem(response, 403, "cross-site")
    for headers in MAY:
        assert client.request(method, path, headers={**key, **headers}, content="{}").status_code != 403, headers


@pytest.mark.parametrize("headers", MAY_NOT)
def test_they_may_ask_what_changes_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/runs", headers=headers).status_code == 200
    assert client.post("/predict", headers=headers, json={"instances": []}).status_code in (422, 503)
