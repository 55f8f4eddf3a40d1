"""How long a run waits for its next trainer after kill -9: from the kill to the run's next `started` event.

`python tests/benchmarks/kills.py [--kills 10] [--busy 4]` measures with the fork server and then without it, over
SQLite, on the CPU. `--busy N` keeps N other processes busy.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.database import Database, migrate
from app.settings import Settings
from tests.e2e.conftest import Processes, find_trainer, open_processes, wait_for
from tests.launcher import launch_for_real

RUN = {
    "model": {"hidden_sizes": [64, 48], "activation": "relu"},
    "training": {"batch_size": 50, "epochs": 100_000, "evaluate_every": 500},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--busy", type=int, default=0)
    options = parser.parse_args()
    with busy_processes(options.busy):
        for fork_server in ("true", "false"):
            seconds = sorted(measure(fork_server, options.kills))
            low, middle, high = seconds[0], statistics.median(seconds), seconds[-1]
            print(
                f"fork server {fork_server}: {len(seconds)} kills, {low:.2f} – {middle:.2f} – {high:.2f} s", flush=True
            )


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    processes = [subprocess.Popen("yes", stdout=subprocess.DEVNULL) for _ in range(number)]
    yield
    for process in processes:
        process.kill()
        process.wait()


def measure(fork_server: str, num_kills: int) -> list[float]:
    """Return the seconds from each kill to the event, as seen in the database."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        database = Database(settings.resolved_database_url)
        migrate(database)
        with open_processes(settings, database, Path(folder), launch_for_real) as processes:
            processes.start_api()
            worker = processes.start_worker(DIGITLAB_FORK_SERVER=fork_server)
            run_id = processes.submit(RUN)
            return [kill_once(processes, worker.pid, run_id) for _ in range(num_kills)]


def kill_once(processes: Processes, worker: int, run_id: str) -> float:
    """Kill the trainer after it has committed a new epoch; return the seconds until the next claim."""
    processes.wait_for_epoch(run_id, processes.row(run_id).epoch)
    time.sleep(1)
    trainer, claim = find_trainer(worker), processes.row(run_id).claim_number
    assert trainer is not None
    killed_at = time.monotonic()
    os.kill(trainer, signal.SIGKILL)
    # The transaction that writes the event also increases the claim number.
    wait_for(lambda: processes.row(run_id).claim_number > claim)
    return time.monotonic() - killed_at


if __name__ == "__main__":
    main()
