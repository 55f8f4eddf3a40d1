"""Cancelling and pausing runs in training, and clean stops, with real processes."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any

import pytest

from app.tables import RunStatus
from tests.e2e.conftest import Processes, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone

# Frequent commits show progress early, so a test catches even a short run in the middle.
OFTEN = {"DIGITLAB_COMMIT_SECONDS": "0.2", "DIGITLAB_HEARTBEAT_SECONDS": "0.2", "DIGITLAB_POLL_SECONDS": "0.1"}


def document(seed: int, epochs: int = 3_000) -> dict[str, Any]:
    """Make a run's document; all seeds give the same stack key."""
    return {
        "seed": seed,
        "model": {"hidden_sizes": [20 + seed, 24], "activation": "tanh", "dropout": 0.25},
        "training": {"batch_size": 20, "epochs": epochs, "evaluate_every": 200},
    }


def test_runs_leave_their_stack_when_asked_and_the_others_do_not_notice(processes: Processes) -> None:
    documents = {processes.submit(document(seed)): document(seed) for seed in range(4)}
    cancelled, paused, *others = documents
    processes.start_worker(**OFTEN)
    processes.wait_for_epoch(cancelled, 0)
    assert processes.get(cancelled)["stack_size"] == 4
    for request, run_id in (("cancel", cancelled), ("pause", paused)):
        asked_at = time.monotonic()
        assert processes.client.post(f"/runs/{run_id}/{request}").status_code == 202
        expected = {"cancel": "cancelled", "pause": "paused"}[request]
        wait_for(lambda: processes.get(run_id)["status"] == expected)  # noqa: B023
        print(f"{request}: done after {time.monotonic() - asked_at:.2f} s")
    assert processes.client.post(f"/runs/{paused}/resume").status_code == 200
    for run_id in (paused, *others):
        assert processes.finish(run_id)["status"] == "succeeded"
        assert_as_if_alone(processes.client, run_id, documents[run_id])
    types = [event["type"] for event in processes.events(paused) if event["type"] not in ("metric", "checkpoint")]
    assert types[:5] == ["queued", "started", "paused", "resumed", "started"]
    run = processes.get(cancelled)
    assert 0 < run["progress"]["epoch"] < 3_000
    epochs = [row["epoch"] for row in processes.client.get(f"/runs/{cancelled}/metrics").json()["data"]]
    assert epochs[-1] <= run["progress"]["epoch"]
    processes.stop()


def test_a_paused_run_survives_a_restart_of_everything(processes: Processes) -> None:
    processes.start_worker(**OFTEN)
    run_id = processes.submit(document(1))
    processes.wait_for_epoch(run_id, 0)
    processes.client.post(f"/runs/{run_id}/pause")
    wait_for(lambda: processes.get(run_id)["status"] == "paused")
    epoch = processes.row(run_id).epoch
    processes.stop()
    processes.workers.clear()

    processes.start_api()
    processes.start_ready_workers(1, **OFTEN)
    assert processes.get(run_id)["status"] == "paused"
    assert processes.client.post(f"/runs/{run_id}/resume").json()["progress"]["epoch"] == epoch
    assert processes.finish(run_id)["status"] == "succeeded"
    assert_as_if_alone(processes.client, run_id, document(1))
    processes.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_gives_its_runs_back(processes: Processes, number: signal.Signals) -> None:
    worker = processes.start_worker(**OFTEN)
    run_ids = [processes.submit(document(seed)) for seed in range(2)]
    processes.wait_for_epoch(run_ids[0], 0)
    asked_at = time.monotonic()
    worker.send_signal(number)
    wait_for(lambda: processes.row(run_ids[0]).status is RunStatus.QUEUED)
    print(f"released after {time.monotonic() - asked_at:.2f} s")
    assert worker.wait(60) == 0
    for run_id in run_ids:
        run = processes.row(run_id)
        assert (run.status, run.crashes_without_progress, run.worker) == (RunStatus.QUEUED, 0, None)
    checkpoint = processes.client.get(f"/runs/{run_ids[0]}/checkpoints").json()["data"][-1]
    assert (checkpoint["role"], checkpoint["epoch"]) == ("last", processes.row(run_ids[0]).epoch)
    assert processes.client.get("/workers").json()["data"] == []
    processes.workers.clear()


def test_an_api_that_is_told_to_stop_finishes_requests_and_ends_streams(processes: Processes) -> None:
    assert processes.api is not None
    run_id = processes.submit({})
    with (
        processes.client.stream("GET", f"/runs/{run_id}/events/stream") as stream,
        processes.client.stream("GET", "/events/stream") as all_events,
        socket.create_connection(("127.0.0.1", int(processes.port))) as half_sent,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "event: queued"
        half_sent.sendall(
            b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"
            b'{"seed"'
        )
        time.sleep(0.3)
        stopped_at = time.monotonic()
        processes.api.send_signal(signal.SIGTERM)
        assert [line for line in lines if line.startswith("event: ")] == []  # the stream ends, and without an error
        assert [line for line in all_events.iter_lines() if line.startswith("event: ")] == []
        half_sent.sendall(b": 7}")
        assert half_sent.recv(1000).startswith(b"HTTP/1.1 202 Accepted")
    processes.api.wait(60)
    print(f"stopped after {time.monotonic() - stopped_at:.2f} s")
    processes.start_api()
    assert [run["seed"] for run in processes.client.get("/runs").json()["data"]] == [7, 0]
