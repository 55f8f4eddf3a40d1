"""Runs that no worker can take: the run and the readiness report, still with status 200, say so."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo
from tests.conftest import TestClient

NO_WORKER, NO_CUDA = "There is no worker", 'No live worker trains runs with "device": "cuda", only with auto, cpu'


def beat(database: Database, devices: list[str] | None) -> None:
    with database.writing() as session:
        registry.beat(session, WorkerInfo("w", "host", 1, devices=devices))


@pytest.mark.parametrize(
    ("devices", "asked", "hint"),
    [
        (["auto", "cpu"], "cuda", NO_CUDA),
        (["auto", "cpu"], "cpu", None),
        (["auto", "cuda", "cpu"], "cuda", None),
        ([], "auto", NO_WORKER),
        (None, "cuda", None),  # a starting worker may turn out to have CUDA
    ],
)
def test_a_run_that_no_worker_can_take_says_so(
    database: Database, client_with_model: TestClient, devices: list[str] | None, asked: str, hint: str | None
) -> None:
    if devices != []:
        beat(database, devices)
    client = client_with_model

    def is_so(body: dict[str, Any]) -> bool:
        found: str | None = body["hint"]
        return found is None if hint is None else found is not None and found.startswith(hint)

    run = {"device": asked}
    sweep = {"base": run, "parameters": {"seed": [1, 2]}}
    assert is_so(client.post("/runs", params={"dry_run": True}, json=run).json())
    plan = client.post("/sweeps", params={"dry_run": True}, json=sweep)
    assert plan.status_code == 200, plan.text
    assert is_so(plan.json())
    queued = client.post("/runs", json=run).json()
    assert is_so(queued)
    assert is_so(client.get(f"/runs/{queued['id']}").json())
    assert is_so(client.get("/runs").json()["data"][0])
    assert is_so(client.get(f"/runs/{queued['id']}/summary").json())
    text = client.get(f"/runs/{queued['id']}/summary", headers={"Accept": "text/plain"}).text
    assert (hint is None) == ("worker" not in text)
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert any(cause.startswith(hint or "-") for cause in ready.json()["causes"]) == (hint is not None)
    cancelled = client.post(f"/runs/{queued['id']}/cancel").json()
    assert cancelled["hint"] is None
