"""How long the `practice` sweep takes, beside scikit-learn's GridSearchCV: run by hand, on a quiet machine.

    python tests/benchmarks/sweep.py

In one run: `digitlab up` on an empty database, `POST /sweeps {"preset": "practice"}` (96 points, 800 epochs each,
evaluated on train and val, with checkpoints and saved models), then its points of batch size 20 and of batch size 100
alone; then GridSearchCV, a process a core, on a sample of the same points: the same network, data, optimizer and
number of epochs, validated once at the end. Seconds a point are those of all points over their number.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier

from app.datasets.catalog import CANONICAL_SPLIT_SEED, CANONICAL_VAL_SIZE

ACTIVATIONS = {"sigmoid": "logistic"}  # scikit-learn's names, where they differ
PATIENCE_SECONDS = 180
SAMPLE_SEED = 0


@contextmanager
def serve(folder: Path) -> Iterator[httpx2.Client]:
    """`digitlab up` with default settings."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIGITLAB_")}
    environment["DIGITLAB_DATA_DIR"] = str(folder)
    command = [sys.executable, "-m", "app.cli", "up", "--no-starter-run", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client)
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_until_ready(client: httpx2.Client) -> None:
    """Until a worker could train at once."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if any(worker["device"] for worker in client.get("/workers").json()["data"]):
                return
        time.sleep(0.1)
    raise SystemExit("The worker did not start.")


def run_sweep(client: httpx2.Client, document: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds from the request until all trials have ended, and the sweep."""
    started = time.perf_counter()
    response = client.post("/sweeps", json=document).raise_for_status()
    path = response.headers["Location"]
    while (sweep := client.get(path).json())["status"] in ("queued", "running"):
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    if sweep["progress"]["succeeded"] != sweep["progress"]["trials"]:
        raise SystemExit(f"Not all trials have succeeded: {sweep['progress']}")
    return seconds, sweep


def search_by_scikit_learn(points: Sequence[dict[str, Any]], epochs: int) -> float:
    """Seconds that GridSearchCV takes for these points."""
    images, labels = load_digits(return_X_y=True)
    indices = np.arange(len(labels))
    split = train_test_split(indices, test_size=CANONICAL_VAL_SIZE, random_state=CANONICAL_SPLIT_SEED, stratify=labels)
    network = MLPClassifier(
        solver="sgd",
        momentum=0.9,
        nesterovs_momentum=False,
        alpha=0.0,
        tol=0.0,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=0,
    )
    grid = [
        {
            "hidden_layer_sizes": [tuple(point["model.hidden_sizes"])],
            "activation": [ACTIVATIONS.get(point["model.activation"], point["model.activation"])],
            "learning_rate_init": [point["training.optimizer.learning_rate"]],
            "batch_size": [point["training.batch_size"]],
        }
        for point in points
    ]
    search = GridSearchCV(network, grid, cv=[tuple(split)], refit=False, n_jobs=os.cpu_count())
    started = time.perf_counter()
    search.fit(images / 255, labels)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, default=8, help="points of each batch size for scikit-learn [8]")
    arguments = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"  # that it has not converged is what all of these processes would say
    with TemporaryDirectory(prefix="digitlab-benchmark-") as folder, serve(Path(folder)) as client:
        seconds, sweep = run_sweep(client, {"preset": "practice"})
        epochs = sweep["base"]["training"]["epochs"]
        print(f"practice: {len(sweep['points'])} points, {epochs} epochs each, in {seconds:.1f} s", flush=True)
        alone = {}
        for batch_size in (20, 100):
            parameters = {**sweep["parameters"], "training.batch_size": [batch_size]}
            alone[batch_size] = run_sweep(client, {"preset": "practice", "parameters": parameters})
    print("\n| batch size | digitlab, seconds a point | GridSearchCV, seconds a point | digitlab is |")
    print("|---|---|---|---|")
    for batch_size, (total, part) in alone.items():
        sample = random.Random(SAMPLE_SEED).sample(part["points"], arguments.sample)
        ours = total / len(part["points"])
        theirs = search_by_scikit_learn(sample, epochs) / len(sample)
        print(f"| {batch_size} | {ours:.3f} | {theirs:.2f} | {theirs / ours:.1f} times as fast |", flush=True)


if __name__ == "__main__":
    main()
