"""kill -9 at random moments of the processes of `digitlab up`: the API, the worker, its trainer.

`python tests/benchmarks/random_kills.py [--kills 60] [--runs 12] [--epochs 3000] [--seed 1]`: the kills are 0.3–2.5 s
apart; a kill counts if its victim was alive. Then `up` must be alive, all runs must succeed, and each run must have
every epoch exactly once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.conftest import children_of, find_trainer, free_port, wait_for

PATIENCE_SECONDS = 1200.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    port = str(free_port())
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--no-starter-run"],
            env={**os.environ, "DIGITLAB_PORT": port, "DIGITLAB_DATA_DIR": folder},
            stderr=log,
        )
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                run_ids = submit_runs(client, options.runs, options.epochs)
                print_kills(kill_at_random(up, options.kills, random.Random(options.seed)))
                assert up.poll() is None, f"up ended: {Path(folder, 'log').read_text()}"
                check_runs(client, run_ids, options.epochs)
            up.terminate()
            print(f"up's exit code: {up.wait(60)}")
        finally:
            up.kill()


def submit_runs(client: httpx2.Client, number: int, epochs: int) -> list[str]:
    """Submit runs of one shape, so that they are trained as one stack; return their ids."""
    wait_for(lambda: _get(client, "/health/live"))
    document = {"training": {"epochs": epochs, "evaluate_every": 1}}
    answers = [client.post("/runs", json={**document, "seed": seed}) for seed in range(number)]
    assert all(answer.status_code == 202 for answer in answers), answers[0].text
    return [answer.json()["id"] for answer in answers]


def kill_at_random(up: subprocess.Popen[bytes], number: int, moments: random.Random) -> Counter[str]:
    """Kill processes at random; return how many of each kind were killed."""
    killed: Counter[str] = Counter()
    while killed.total() < number and up.poll() is None:
        time.sleep(moments.uniform(0.3, 2.5))
        victim = moments.choice(("API", "worker", "trainer"))
        pid = find_victim(up.pid, victim)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed[victim] += 1
    return killed


def find_victim(up_pid: int, victim: str) -> int | None:
    """Return the victim's process id, None while there is none; the worker is the child `python -m workers` of `up`."""
    for pid in children_of(up_pid):
        with suppress(OSError):
            is_worker = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").endswith(b"workers")
            if victim == "trainer" and is_worker:
                return find_trainer(pid)
            if (victim == "worker") == is_worker and victim != "trainer":
                return pid
    return None


def print_kills(killed: Counter[str]) -> None:
    print(f"{killed.total()} kills: {', '.join(f'{victim} {count}' for victim, count in killed.items())}", flush=True)


def check_runs(client: httpx2.Client, run_ids: list[str], epochs: int) -> None:
    started_at = time.monotonic()

    def ended() -> list[dict[str, Any]] | None:
        runs = [run for run_id in run_ids if (run := _get(client, f"/runs/{run_id}")) is not None]
        return runs if len(runs) == len(run_ids) and all(run["finished_at"] for run in runs) else None

    runs = wait_for(ended, PATIENCE_SECONDS)
    print(f"all ended {time.monotonic() - started_at:.0f} s after the last kill")
    print(dict(Counter(run["status"] for run in runs)))
    for run in runs:
        assert run["status"] == "succeeded", run["error"]
        trained = [metric["epoch"] for metric in all_metrics(client, run["id"])]
        assert trained == list(range(1, epochs + 1)), f"{run['id']}: {len(trained)} metrics"
    print(f"each of {len(runs)} runs has each of its {epochs} epochs once")


def all_metrics(client: httpx2.Client, run_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"/runs/{run_id}/metrics", params={"limit": 10_000})
    metrics: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
    return metrics


def _get(client: httpx2.Client, path: str) -> dict[str, Any] | None:
    """Return the response's document; None while the API is being restarted."""
    with suppress(httpx2.TransportError):
        answer = client.get(path)
        if answer.is_success:
            document: dict[str, Any] = answer.json()
            return document
    return None


if __name__ == "__main__":
    main()
