"""kill -9 of the trainer, the worker, the API, and all of them at once, at random moments during long runs."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

import pytest
from sqlalchemy import select

from app.queue import claiming
from app.queue.claiming import Claim, StaleClaim
from app.queue.lifecycle import MAX_CRASHES_WITHOUT_PROGRESS
from app.tables import Run, RunStatus
from tests.e2e.conftest import Processes, find_trainer, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone
from tests.launcher import Launch, Process, launch_for_real

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the trainer child in /proc")

NUM_ROUNDS = 20
VICTIMS = ("trainer", "worker", "api", "all")
FAST = {
    "DIGITLAB_LEASE_SECONDS": "2",
    "DIGITLAB_HEARTBEAT_SECONDS": "0.2",
    "DIGITLAB_COMMIT_SECONDS": "0.2",
    "DIGITLAB_POLL_SECONDS": "0.1",
}
# The run trains for several seconds if it is not interrupted.
LONG_RUN = {
    "model": {"hidden_sizes": [64, 48], "activation": "relu", "dropout": 0.0},
    "training": {
        "optimizer": {"kind": "sgd", "nesterov": True},
        "batch_size": 50,
        "epochs": 10_000,
        "evaluate_every": 80,
        "schedule": {"kind": "cosine", "warmup_steps": 1000},
        "augmentation": {"copies": 16},
        "snapshots": 16,
    },
}


@pytest.fixture
def launch() -> Launch:
    return launch_for_real


# The fork server does not depend on the database, so each database tests one of the two settings.
@pytest.mark.parametrize(
    ("settings", "fork_server"),
    [("sqlite", "true"), ("postgres", "false")],
    indirect=["settings"],
    ids=["sqlite-forked", "postgres-spawned"],
)
def test_no_accepted_run_is_lost_or_trained_twice(idle_processes: Processes, fork_server: str) -> None:
    processes = idle_processes
    moments = random.Random(20231110)
    victims = [victim for victim in VICTIMS for _ in range(NUM_ROUNDS // len(VICTIMS))]
    moments.shuffle(victims)
    processes.environment |= FAST | {"DIGITLAB_FORK_SERVER": fork_server}
    processes.start_api()
    processes.start_ready_workers(2)
    accepted: list[str] = []
    num_refused, takeovers = 0, []
    for victim in victims:
        _keep_busy(processes, accepted)
        training, worker = wait_for(lambda: _in_training(processes))
        time.sleep(moments.uniform(0, 0.5))
        killed_at = time.monotonic()
        _kill(processes, victim, worker)
        _start_again(processes)
        if victim != "api" and (successor := _wait_for_takeover(processes, training)):
            num_refused += 1
            takeovers.append(f"{victim} {time.monotonic() - killed_at:.1f}")
            assert victim == "trainer" or successor != training[0].worker
    for run_id in accepted:
        assert processes.finish(run_id)["status"] == "succeeded"
    for run_id in accepted:
        _check_history(processes, run_id)
    assert num_refused >= NUM_ROUNDS / 2, "most kills hit a run in training"
    print(f"{len(accepted)} runs; seconds until training went on: {', '.join(takeovers)}")
    most_claimed = max(accepted, key=lambda run_id: processes.row(run_id).claim_number)
    assert processes.row(most_claimed).claim_number > 5
    assert_as_if_alone(processes.client, most_claimed, {**LONG_RUN, "seed": accepted.index(most_claimed)})
    processes.stop()


def _keep_busy(processes: Processes, accepted: list[str]) -> None:
    with processes.database.reading() as session:
        unfinished = session.scalars(select(Run).where(Run.status.in_([RunStatus.QUEUED, RunStatus.RUNNING]))).all()
    for _ in range(3 - len(unfinished)):
        accepted.append(processes.submit({**LONG_RUN, "seed": len(accepted)}))


def _in_training(processes: Processes) -> tuple[list[Run], Process] | None:
    """Return the runs in training on living workers, and the worker of the first run.

    The result is None until each of the runs has made progress, and while any run is one crash away from failing: a
    kill also hits runs that are claimed after this call.
    """
    workers = {processes.worker_name(worker): worker for worker in processes.workers}
    with processes.database.reading() as session:
        unfinished = list(session.scalars(select(Run).where(Run.finished_at.is_(None)).order_by(Run.id)))
    training = [run for run in unfinished if run.status is RunStatus.RUNNING and run.worker in workers]
    if not training or any(run.epochs_per_second is None for run in training):
        return None
    if any(run.crashes_without_progress + 1 >= MAX_CRASHES_WITHOUT_PROGRESS for run in unfinished):
        return None
    return training, workers[training[0].worker]


def _kill(processes: Processes, victim: str, worker: Process) -> None:
    assert processes.api is not None
    worker_pids = [each.pid for each in processes.workers]
    trainers = {pid: trainer for pid in worker_pids if (trainer := find_trainer(pid)) is not None}
    pids = {
        "trainer": [trainers[worker.pid]],
        "worker": [worker.pid],
        "api": [processes.api.pid],
        "all": [*trainers.values(), *worker_pids, processes.api.pid],
    }
    for pid in pids[victim]:
        os.kill(pid, signal.SIGKILL)
    for process in (processes.api, *processes.workers):
        if process.pid in pids[victim]:
            process.wait(60)


def _start_again(processes: Processes) -> None:
    """Start dead processes again, as a supervisor does."""
    assert processes.api is not None
    if processes.api.poll() is not None:
        processes.start_api()
    for worker in list(processes.workers):
        if worker.poll() is not None:
            processes.workers.remove(worker)
            processes.start_worker()


def _wait_for_takeover(processes: Processes, before: list[Run]) -> str | None:
    """Wait until a run has been claimed again, and check that its old worker could not write any more.

    Returns:
        The new worker's name; None if the run had just ended.
    """

    def changed() -> list[tuple[Claim, Run]]:
        pairs = [(Claim(run.id, run.claim_number), processes.row(run.id)) for run in before]
        return [(old, now) for old, now in pairs if now.finished_at or now.claim_number > old.claim_number]

    stale: Claim
    row: Run
    stale, row = wait_for(changed)[0]
    if row.finished_at:
        return None
    with pytest.raises(StaleClaim), processes.database.writing() as session:
        claiming.fence(session, stale)
    return row.worker


def _check_history(processes: Processes, run_id: str) -> None:
    """Check that a run has one worker at a time, and that no epoch seen by clients is repeated or taken back."""
    claims, worker = 0, None
    epochs: list[int] = []
    for event in processes.events(run_id):
        data: dict[str, Any] = event["data"]
        if event["type"] == "started":
            assert worker is None
            claims += 1
            assert data["claim_number"] == claims
            assert data["epoch"] >= (epochs[-1] if epochs else 0)
            worker = data["worker"]
        elif event["type"] == "worker_lost":
            assert (data["worker"], data["claim_number"]) == (worker, claims)
            worker = None
        elif event["type"] in ("metric", "checkpoint"):
            assert worker is not None
            if event["type"] == "metric":
                epochs.append(data["epoch"])
    assert epochs == [1, *range(80, 10_001, 80)]
    metrics = processes.client.get(f"/runs/{run_id}/metrics").json()["data"]
    assert [row["epoch"] for row in metrics] == epochs
