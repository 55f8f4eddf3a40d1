"""Two workers share a queue while clients send requests without a pause."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from tests.e2e.conftest import Processes

NUM_RUNS = 60


def test_each_run_is_claimed_once_and_in_the_order_of_priority(processes: Processes) -> None:
    moments = random.Random(20231110)
    runs = []
    for seed in range(NUM_RUNS):
        priority = moments.randint(-2, 2)
        document = {"seed": seed, "priority": priority, "model": {"hidden_sizes": [8]}, "training": {"epochs": 40}}
        runs.append((-priority, processes.submit(document)))
    done = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(_hammer, processes, done, number) for number in range(3)]
        workers = processes.start_ready_workers(2, DIGITLAB_MAX_STACK_BYTES="0")  # each run alone: the order shows
        finished = {run_id: processes.finish(run_id) for _, run_id in runs}
        done.set()
        statuses = [status for client in clients for status in client.result()]
    assert {run["status"] for run in finished.values()} == {"succeeded"}
    assert max(statuses) < 300
    print(f"{len(statuses)} requests meanwhile")

    starts = _events(processes, "started")
    _check_order([event["run_id"] for event in starts], [run_id for _, run_id in sorted(runs)], processes)
    assert {event["data"]["claim_number"] for event in starts} == {1}
    assert {event["data"]["worker"] for event in starts} == set(workers)
    _check_that_no_worker_trains_two(processes)
    processes.stop()


def _check_order(started: list[str], expected: list[str], processes: Processes) -> None:
    """Check the order of the starts.

    Two workers may claim at the same moment on Postgres, and the one with the second run may commit first.
    """
    assert sorted(started) == sorted(expected)
    at_most = 0 if processes.database.engine.dialect.name == "sqlite" else 1
    assert max(abs(place - expected.index(run_id)) for place, run_id in enumerate(started)) <= at_most


def _hammer(processes: Processes, done: threading.Event, number: int) -> list[int]:
    """Read and write without a pause; return the statuses of the responses."""
    with httpx2.Client(base_url=processes.client.base_url, timeout=60) as client:
        extra = client.post("/runs", json={"priority": -100, "name": f"of client {number}"}).json()["id"]
        client.post(f"/runs/{extra}/pause")
        requests: list[Callable[[], Any]] = [
            lambda: client.get("/runs", params={"limit": 100}),
            lambda: client.get("/events", params={"limit": 100}),
            lambda: client.patch(f"/runs/{extra}", json={"notes": "again"}),
            lambda: client.post(f"/runs/{extra}/pause"),
            lambda: client.get("/workers"),
        ]
        return [request().status_code for _ in iter(done.is_set, True) for request in requests]


def _events(processes: Processes, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: str | None = "0"
    while after is not None:
        page = processes.client.get("/events", params={"after": after, "limit": 1000}).json()
        found += [event for event in page["data"] if event["type"] == kind]
        after = page["next"]
    return found


def _check_that_no_worker_trains_two(processes: Processes) -> None:
    """Check that a worker has no other run between a run's start and its end, so no run was trained twice."""
    busy: dict[str, str] = {}
    both = sorted(_events(processes, "started") + _events(processes, "succeeded"), key=lambda event: int(event["id"]))
    for event in both:
        if event["type"] == "started":
            assert event["data"]["worker"] not in busy
            busy[event["data"]["worker"]] = event["run_id"]
        else:
            (worker,) = [name for name, run_id in busy.items() if run_id == event["run_id"]]
            del busy[worker]
    assert busy == {}
