"""SIGSTOP, as in a frozen container or a suspended machine: another worker takes over, no stale worker writes."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from app.queue import claiming
from app.queue.claiming import Claim, StaleClaim
from tests.e2e.conftest import Processes, find_trainer, has_ended, wait_for
from tests.e2e.uninterrupted import assert_as_if_alone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the trainer child in /proc")

SETTINGS = {
    "DIGITLAB_LEASE_SECONDS": "2",
    "DIGITLAB_HEARTBEAT_SECONDS": "0.2",
    "DIGITLAB_COMMIT_SECONDS": "0.2",
    "DIGITLAB_POLL_SECONDS": "0.1",
    "DIGITLAB_STALL_SECONDS": "2",
}
RUN: dict[str, Any] = {
    "seed": 3,
    "model": {"hidden_sizes": [24, 24], "activation": "tanh", "dropout": 0.25},
    "training": {"batch_size": 20, "epochs": 3_000, "evaluate_every": 100},
}


# The fork server does not depend on the database, so each database tests one of the two settings.
@pytest.mark.parametrize(
    ("settings", "fork_server"),
    [("sqlite", "true"), ("postgres", "false")],
    indirect=["settings"],
    ids=["sqlite-forked", "postgres-spawned"],
)
@pytest.mark.parametrize("what", ["worker", "trainer", "both"])
def test_another_worker_takes_over_from_a_stopped_one(processes: Processes, what: str, fork_server: str) -> None:
    workers = processes.start_ready_workers(2, **SETTINGS, DIGITLAB_FORK_SERVER=fork_server)
    run_id = processes.submit(RUN)
    processes.wait_for_epoch(run_id, 0)
    first = processes.row(run_id)
    stopped = workers.pop(first.worker or "")
    trainer = find_trainer(stopped.pid)
    assert trainer is not None
    pids = {"worker": [stopped.pid], "trainer": [trainer], "both": [stopped.pid, trainer]}[what]
    _stop_between_transactions(processes, pids)
    stopped_at = time.monotonic()

    (other,) = workers
    wait_for(lambda: processes.row(run_id).claim_number == first.claim_number + 1)
    print(f"{what}: taken over after {time.monotonic() - stopped_at:.1f} s")
    # A worker that still runs kills its stuck trainer, and its next trainer may be ready before the other worker polls.
    successors = {other, first.worker} if what == "trainer" else {other}
    successor = wait_for(lambda: successors & {processes.row(run_id).worker}).pop()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    with pytest.raises(StaleClaim), processes.database.writing() as session:
        claiming.fence(session, Claim(run_id, first.claim_number))
    wait_for(lambda: has_ended(trainer))
    if what == "trainer":
        assert stopped.poll() is None
    else:
        assert stopped.wait(60) != 0
        processes.workers.remove(stopped)

    assert processes.finish(run_id)["status"] == "succeeded"
    assert_as_if_alone(processes.client, run_id, RUN)
    starts = [event["data"] for event in processes.events(run_id) if event["type"] == "started"]
    assert [start["worker"] for start in starts] == [first.worker, successor]
    processes.stop()


def _stop_between_transactions(processes: Processes, pids: list[int]) -> None:
    """Stop processes while none holds SQLite's write lock: a stopped process keeps it, and all other writers wait."""
    while True:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: all(_has_stopped(pid) for pid in pids))
        if processes.database.engine.dialect.name != "sqlite":
            return
        file = str(processes.database.url.database)
        with closing(sqlite3.connect(file, timeout=0.3)) as connection, suppress(sqlite3.OperationalError):
            connection.execute("BEGIN IMMEDIATE")
            return
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)


def _has_stopped(pid: int) -> bool:
    """Return whether all threads have stopped.

    Until then a system call in progress may still take a lock; on a busy machine that lasts well beyond the signal.
    """
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and all(state == "T" for state in states)
