"""HEAD: the response is that of GET without its content."""

from __future__ import annotations

import gc
import logging

import pytest

from app.settings import Settings
from tests.conftest import AddModel, TestClient

PATHS = [
    "/health/live",
    "/health/ready",
    "/runs",
    "/models/champion",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/v2",
    "/datasets/digits/samples.png",
    "/datasets/digits/data.npz",
    "/presets",
    "/events",
    "/nothing-there",
]
WITHOUT_VALUES = ("x-request-id", "content-length")  # these may differ: a body may contain the time, for example


def headers_of(response: object) -> dict[str, str]:
    headers: dict[str, str] = dict(response.headers)  # type: ignore[attr-defined]
    return {name: "" if name in WITHOUT_VALUES else value for name, value in headers.items()}


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", PATHS)
def test_the_headers_are_those_of_get(client_with_model: TestClient, path: str) -> None:
    got, asked = client_with_model.get(path), client_with_model.head(path)
    assert asked.status_code == got.status_code
    assert asked.content == b""
    assert headers_of(asked) == headers_of(got)


def test_a_stream_answers_its_headers_and_ends(
    client: TestClient, add_model: AddModel, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = add_model()
    gc.disable()  # it would give connections back that the service forgot
    try:
        for path in ("/events/stream", f"/runs/{run_id}/events/stream"):
            response = client.head(path)
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["content-type"].startswith("text/event-stream")
        state = client.app.state  # type: ignore[attr-defined]
        assert (state.feed._num_streams, state.database.engine.pool.checkedout()) == (0, 0)
    finally:
        gc.enable()
    assert client.head("/runs/nothing-there/events/stream").status_code == 404
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_what_only_takes_a_post_refuses_it_and_get_routes_allow_it(client: TestClient) -> None:
    assert client.head("/predict").status_code == 405
    assert client.head("/predict").content == b""
    assert client.put("/runs").headers["allow"] == "GET, HEAD, POST"


def test_a_key_is_asked_for(tmp_path_factory: pytest.TempPathFactory) -> None:
    from app.main import create_app

    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), api_keys="predict:reader-0123456789")
    client = TestClient(create_app(settings))
    assert client.head("/runs").status_code == 401
