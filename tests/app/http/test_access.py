"""API keys: which routes are open without one, what a `predict` key may do, and that keys are never revealed."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import uvicorn
from pydantic import ValidationError
from typer.testing import CliRunner

from app.api_keys import KeyScope, required_scope
from app.cli import cli
from app.main import create_app
from app.settings import Settings
from tests.conftest import AssertProblem, TestClient

PREDICT, ADMIN = "reader-0123456789", "writer-0123456789"
DOCUMENTATION = [("GET", "/openapi.json"), ("GET", "/docs")] + [
    ("GET", f"/docs/{file}") for file in ("start.js", "swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
]
OPEN = {("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/access"), *DOCUMENTATION}
# The POST operations that a `predict` key may call; it may call every GET operation.
ASKS_A_MODEL = {"/predict", "/digitize", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"}
OPERATIONS = [
    (method.upper(), path) for path, methods in create_app(Settings()).openapi()["paths"].items() for method in methods
] + DOCUMENTATION
REFUSALS = ("/problems/unauthorized", "/problems/forbidden")


@pytest.fixture
def guarded(tmp_path: Path, migrated_file: Path) -> Iterator[TestClient]:
    copyfile(migrated_file, tmp_path / "digitlab.db")
    settings = Settings(data_dir=tmp_path, api_keys=f"predict:{PREDICT},admin:{ADMIN}")
    with TestClient(create_app(settings)) as client:
        yield client


def ask(client: TestClient, method: str, path: str, key: str | None) -> int:
    """Send a request that does nothing harmful even if it is allowed; return its status."""
    for name in ("run_id", "name", "role", "version"):
        path = path.replace(f"{{{name}}}", "nothing-there")
    if path.endswith("/events/stream"):
        path = "/runs/nothing-there/events/stream"  # the stream of all events never ends
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return client.request(method, path, headers=headers).status_code


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: str(value))
def test_every_route_asks_for_the_key_that_it_should(guarded: TestClient, method: str, path: str) -> None:
    may_predict = method == "GET" or path in ASKS_A_MODEL
    if (method, path) in OPEN:
        assert ask(guarded, method, path, None) not in (401, 403)
        return
    assert ask(guarded, method, path, None) == 401
    assert ask(guarded, method, path, "wrong") == 401
    assert (ask(guarded, method, path, PREDICT) == 403) is not may_predict
    assert ask(guarded, method, path, ADMIN) not in (401, 403)


@pytest.mark.parametrize(
    ("key", "scope", "may_read", "may_change"),
    [
        (None, None, False, False),
        ("wrong", None, False, False),
        (PREDICT, "predict", True, False),
        (ADMIN, "admin", True, True),
    ],
)
def test_a_client_learns_what_its_key_allows(
    guarded: TestClient, key: str | None, scope: str | None, may_read: bool, may_change: bool
) -> None:
    response = guarded.get("/access", headers={} if key is None else {"Authorization": f"Bearer {key}"})
    assert response.status_code == 200
    expected = {"needs_key": True, "scope": scope, "may_read": may_read, "may_change": may_change}
    assert response.json() == expected
    assert ask(guarded, "GET", "/runs", key) == (200 if may_read else 401)
    assert (ask(guarded, "DELETE", "/runs/{run_id}", key) == 404) is may_change


def test_what_is_not_declared_needs_a_key_too(guarded: TestClient) -> None:
    for path in (
        "/web",
        "/index.html",
        "/nothing",
        "/redoc",
        "/docs/oauth2-redirect",
        "/docs/x.js",
        "/health/live/x",
        "/docs/",
        "//predict",
    ):
        url = str(guarded.base_url).rstrip("/") + path  # alone, `//predict` would be the page of a host `predict`
        assert guarded.get(url).status_code == 401, path
    assert guarded.options("/runs").status_code == 401
    assert guarded.post("/health/live").status_code == 405


def test_a_predict_key_changes_nothing(guarded: TestClient) -> None:
    reader = {"Authorization": f"Bearer {PREDICT}"}
    assert guarded.post("/runs", json={}, headers=reader).status_code == 403
    for path in ("/predict/../runs", "/predict//", "/v2/models/a/b/infer", "/v2/models/infer"):
        assert guarded.post(path, json={}, headers=reader).status_code == 403, path


@pytest.mark.parametrize(("path", "body"), [("/runs", {}), ("/sweeps", {"parameters": {"seed": [1, 2]}})])
def test_a_predict_key_may_ask_for_a_dry_run_and_nothing_more(
    guarded: TestClient, path: str, body: dict[str, Any], assert_problem: AssertProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = {"Authorization": f"Bearer {PREDICT}"}
    for query in ("", "?dry_run=false", "?dry_run=0", "?dry-run=true", "?dry_run=", "?dry_run=true;dry_run=false"):
        assert guarded.post(path + query, json=body, headers=reader).status_code in (403, 422), query
    for query in ("?dry_run=true&dry_run=false", "?dry_run=false&dry_run=true", "?dry_run=true&dry%5frun=true"):
        for key in (PREDICT, ADMIN):
            refused = guarded.post(path + query, json=body, headers={"Authorization": f"Bearer {key}"})
            assert_problem(refused, 422, "invalid-input")
    for form in ({"data": {"dry_run": "true"}}, {"json": body | {"dry_run": True}}):
        assert guarded.post(path, headers=reader, **form).status_code == 403
    assert guarded.get(path, headers=reader).json()["data"] == []
    assert guarded.post(path, json=body, headers={"Authorization": f"Bearer {ADMIN}"}).status_code == 202

    monkeypatch.setattr(guarded.app.state.database, "writing", None)  # type: ignore[attr-defined]
    for query in ("?dry_run=true", "?dry_run=1", "?dry%5Frun=true"):
        assert guarded.post(path + query, json=body, headers=reader).status_code == 200
    assert guarded.post(path + "?dry_run=true", json=body).status_code == 401


@pytest.mark.parametrize(("method", "path"), [each for each in OPERATIONS if each not in OPEN])
def test_a_slash_at_the_end_is_redirected_as_without_keys(guarded: TestClient, method: str, path: str) -> None:
    may_predict = method == "GET" or path in {*ASKS_A_MODEL, "/runs", "/sweeps"}
    path = re.sub(r"{\w+}", "x", path) + "/"
    for key, status in ((PREDICT, 307 if may_predict else 403), (ADMIN, 307)):
        headers = {"Authorization": f"Bearer {key}"}
        response = guarded.request(method, path, headers=headers, follow_redirects=False)
        assert response.status_code == status, (path, key)
    assert guarded.request(method, path, follow_redirects=False).status_code == 401


def test_a_refusal_says_what_is_missing(guarded: TestClient, assert_problem: AssertProblem) -> None:
    unknown = guarded.get("/runs")
    assert_problem(unknown, 401, "unauthorized")
    assert unknown.headers["www-authenticate"] == "Bearer"
    forbidden = guarded.post("/runs", json={}, headers={"Authorization": f"bearer {PREDICT}"})
    assert "admin" in assert_problem(forbidden, 403, "forbidden")["detail"]


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer ", ADMIN, f"Basic {ADMIN}", f"Bearer {ADMIN[:-1]}", "Bearer é"])
def test_what_is_no_key_opens_nothing(guarded: TestClient, sent: str) -> None:
    assert guarded.get("/runs", headers={b"Authorization": sent.encode()}).status_code == 401


def test_a_preflight_passes_without_a_key_and_a_refusal_passes_cors(tmp_path: Path) -> None:
    origin = "http://localhost:5173"
    settings = Settings(data_dir=tmp_path, api_keys=f"predict:{PREDICT}", cors_origins=[origin])
    with TestClient(create_app(settings)) as client:
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asked["Access-Control-Request-Headers"] = "authorization,content-type"
        assert client.options("/predict", headers=asked).status_code == 200
        refused = client.post("/predict", json={}, headers={"Origin": origin})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == origin
        assert "Model-Run-Id" in refused.headers["access-control-expose-headers"]


def test_without_keys_everything_is_open(client: TestClient) -> None:
    assert client.get("/runs").status_code == 200
    anything = {"needs_key": False, "scope": None, "may_read": True, "may_change": True}
    assert client.get("/access").json() == anything
    assert client.get("/access", headers={"Authorization": "Bearer whatever"}).json() == anything


def test_no_key_is_logged_or_shown(
    guarded: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for key in (PREDICT, ADMIN, "wrong-key"):
        assert key not in guarded.post("/runs", json={"x": 1}, headers={"Authorization": f"Bearer {key}"}).text
        assert key not in caplog.text
    assert ADMIN not in repr(Settings(api_keys=f"admin:{ADMIN}"))
    monkeypatch.setenv("DIGITLAB_API_KEYS", f"root:{ADMIN}")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert ADMIN not in str(caught.value)
    refused = CliRunner().invoke(cli, ["migrate"])
    assert refused.exit_code == 2
    assert "DIGITLAB_API_KEYS" in refused.output
    assert ADMIN not in refused.output


@pytest.mark.parametrize("written", ["KEY", "admin:", "root:KEY", "admin KEY", "admin:K EY", "predict:a,admin"])
def test_keys_that_are_written_wrongly_are_refused(written: str) -> None:
    with pytest.raises(ValidationError):
        Settings(api_keys=written)


def test_an_address_beyond_loopback_needs_keys_or_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[uvicorn.Server] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        server.started = True
        started.append(server)
        for listener in sockets:
            listener.close()

    def listen_on_loopback(_: Settings) -> list[socket.socket]:  # other machines must not reach a test's service
        return [socket.create_server(("127.0.0.1", 0))]

    monkeypatch.setattr("uvicorn.Server.run", run)
    monkeypatch.setattr("app.http.server.listen", listen_on_loopback)
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DIGITLAB_HOST", "0.0.0.0")
    assert CliRunner().invoke(cli, ["api"]).exit_code == 2
    assert not started
    with monkeypatch.context() as allowed:
        allowed.setenv("DIGITLAB_ALLOW_UNAUTHENTICATED", "true")
        assert CliRunner().invoke(cli, ["api"]).exit_code == 0
    monkeypatch.setenv("DIGITLAB_API_KEYS", f"admin:{ADMIN}")
    assert CliRunner().invoke(cli, ["api"]).exit_code == 0
    assert len(started) == 2


def test_what_a_request_needs() -> None:
    assert required_scope("GET", "/health/ready") is None
    assert required_scope("GET", "/metrics") is KeyScope.PREDICT
    assert required_scope("POST", "/v2/models/champion/infer") is KeyScope.PREDICT
    assert required_scope("POST", "/models/champion/rollback") is KeyScope.ADMIN
    assert required_scope("POST", "/predict/") is KeyScope.PREDICT
    assert required_scope("POST", "/runs") is KeyScope.ADMIN  # also when a page of another site sends it
    assert required_scope("BREW", "/predict") is KeyScope.ADMIN
