"""The path prefix that a proxy strips: links in responses contain it, and access rules see the path without it."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from pydantic import ValidationError

from app.main import create_app
from app.settings import Settings
from tests.conftest import TestClient

ADMIN = {"Authorization": "Bearer writer-0123456789"}


def serve(folder: Path, migrated_file: Path, prefix: str, **options: Any) -> TestClient:
    copyfile(migrated_file, folder / "digitlab.db")
    return TestClient(create_app(Settings(data_dir=folder, root_path=prefix, **options)))


# Some prefixes are also the beginning of one of the service's own paths.
@pytest.mark.parametrize("prefix", ["/digitlab", "/a/b", "/runs", "/docs", "/health", "/predict"])
def test_what_leads_on_carries_the_prefix(tmp_path: Path, migrated_file: Path, prefix: str) -> None:
    with serve(tmp_path, migrated_file, prefix) as client:
        run = client.post("/runs", json={})
        assert run.headers["location"] == f"{prefix}/runs/{run.json()['id']}"
        sweep = client.post("/sweeps", json={"parameters": {"seed": [1]}})
        assert sweep.headers["location"] == f"{prefix}/sweeps/{sweep.json()['id']}"
        for method, path in (("POST", "/predict/"), ("GET", "/runs/"), ("HEAD", "/runs/"), ("GET", "/events/")):
            redirect = client.request(method, f"{path}?limit=1", follow_redirects=False)
            assert (redirect.status_code, redirect.headers["location"]) == (307, f"{prefix}{path[:-1]}?limit=1")
        assert client.get("/openapi.json").json()["servers"] == [{"url": prefix}]
        page = client.get("/docs").text + client.get("/docs/start.js").text
        led_to = re.findall(r'(?:src=|href=|url: )"([^"]+)"', page)
        assert len(led_to) == 5
        assert not any(path.startswith("/") or ":" in path for path in led_to), "relative, they carry any prefix"
        assert client.get(f"/runs/{run.json()['id']}").status_code == 200
        assert client.get("/health/live").status_code == 200
        assert client.get("/runs").json()["data"]


def test_without_one_nothing_is_added(tmp_path: Path, migrated_file: Path) -> None:
    with serve(tmp_path, migrated_file, "") as client:
        run = client.post("/runs", json={})
        assert run.headers["location"] == f"/runs/{run.json()['id']}"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("prefix", ["/digitlab", "/health", "/docs", "/predict", "/runs", "/v2"])
def test_rules_see_the_path_without_it(tmp_path: Path, migrated_file: Path, prefix: str) -> None:
    keys = "predict:reader-0123456789,admin:writer-0123456789"
    with serve(tmp_path, migrated_file, prefix, api_keys=keys) as client:
        for path in (f"{prefix}/runs", f"{prefix}/x/metrics", f"{prefix}/models/champion/rollback"):
            is_open = path == "/health/runs"  # every path directly under /health is open, and this one does not exist
            assert client.get(path).status_code == (404 if is_open else 401), path
            assert client.get(path, headers=ADMIN).status_code == 404, path  # here no proxy has stripped the prefix
            reader = {"Authorization": "Bearer reader-0123456789"}
            assert client.post(path, headers=reader).status_code == (404 if is_open else 403), path
        assert client.get("/runs").status_code == 401
        assert client.get("/runs", headers=ADMIN).status_code == 200
        assert client.get("/health/live").status_code == 200
        assert client.get("/docs").status_code == 200
        assert client.post("/runs", content=b" " * (9 * 2**20), headers=ADMIN).status_code in (413, 415)


def test_a_prefix_is_written_with_or_without_slashes() -> None:
    for written in ("digitlab", "/digitlab", "/digitlab/", " /digitlab "):
        assert Settings(root_path=written).root_path == "/digitlab"
    assert Settings(root_path="/").root_path == ""
    for wrong in ("http://x/y", "/a//b", "/a/../b", "/a b", "/a?b", "/a%2fb", "/\u00e9", "/a\r\nb"):
        with pytest.raises(ValidationError, match="/digitlab"):
            Settings(root_path=wrong)
