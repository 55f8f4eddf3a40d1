"""How long the `practice` sweep takes, beside scikit-learn's GridSearchCV: run by hand, on a quiet machine.

    python tests/benchmarks/sweep.py

One run of the script starts `digitlab up` on an empty database and sends `POST /sweeps {"preset": "practice"}` (96
points, 800 epochs each, evaluated on train and val, with checkpoints and saved models). Then it sends the points of
batch size 20 and of batch size 100 as sweeps of their own. Then GridSearchCV, with one process per core, trains a
sample of the same points: the same network, data, optimizer and number of epochs, validated once at the end. Seconds
per point are the seconds of all points divided by their number.

    python tests/benchmarks/sweep.py --recording

This option measures what recording costs: 200 runs of 12-12 for 200 epochs, evaluated every epoch and every 20th. It
measures in this process first the engine alone, then training and evaluation without a recorder, then both with the
recorder and a database of its own; then the same sweep over HTTP, from the request until the last run has ended.
Microseconds are the total time divided by runs and optimizer steps. The last figure is the number of bytes that a run
of 20,000 evaluated epochs adds to the database.

    python tests/benchmarks/sweep.py --short

This option measures what surrounds training: a sweep of 1,000 trials of 12-12 for 20 epochs over HTTP.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier

from app.database import Database, migrate
from app.datasets.catalog import CANONICAL_SPLIT_SEED, CANONICAL_VAL_SIZE
from app.queue import claiming
from app.sweeps import service as sweeps
from app.sweeps import submission
from workers.preparation import Preparation, register_datasets
from workers.recorder import Recorder
from workers.results import Outcome, Succeeded

ACTIVATIONS = {"sigmoid": "logistic"}  # scikit-learn's names where they differ from digitlab's
PATIENCE_SECONDS = 180
POLL_SECONDS = 0.4  # as `digitlab sweep` does it: with twenty a second, a sweep took 22.2 s instead of 19.4
SAMPLE_SEED = 0


@contextmanager
def serve(folder: Path, **settings: str) -> Iterator[httpx2.Client]:
    """Run `digitlab up` with these settings, the others are the defaults; yield a client of it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIGITLAB_")}
    environment |= {"DIGITLAB_DATA_DIR": str(folder), **settings}
    command = [sys.executable, "-m", "app.cli", "up", "--no-starter-run", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client)
            yield client
    except BaseException:
        sys.stderr.write((folder / "log").read_text()[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def wait_until_ready(client: httpx2.Client) -> None:
    """Wait until a worker could start to train at once."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if any(worker["device"] for worker in client.get("/workers").json()["data"]):
                return
        time.sleep(0.1)
    raise SystemExit("The worker did not start.")


def run_sweep(client: httpx2.Client, document: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the seconds from the request until all trials have ended, and the sweep."""
    started = time.perf_counter()
    response = client.post("/sweeps", json=document).raise_for_status()
    path = response.headers["Location"]
    while (sweep := client.get(path).json())["status"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - started
    if sweep["progress"]["succeeded"] != sweep["progress"]["trials"]:
        raise SystemExit(f"Not all trials have succeeded: {sweep['progress']}")
    return seconds, sweep


def search_by_scikit_learn(points: Sequence[dict[str, Any]], epochs: int) -> float:
    """Return the seconds that GridSearchCV takes for these points."""
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


NUM_RUNS, NUM_EPOCHS, NUM_LONG_EPOCHS = 200, 200, 20_000
NUM_SHORT_RUNS, NUM_SHORT_EPOCHS = 1000, 20
STEPS_PER_EPOCH = 63  # 1,257 images in batches of 20


def recorded_sweep(evaluate_every: int, num_runs: int = NUM_RUNS, epochs: int = NUM_EPOCHS) -> dict[str, Any]:
    model = {"hidden_sizes": [12, 12], "dropout": 0.0}
    training = {"epochs": epochs, "batch_size": 20, "evaluate_every": evaluate_every}
    return {
        "base": {"model": model, "training": training},
        "search": {"kind": "random", "trials": num_runs},
        "parameters": {"training.optimizer.learning_rate": {"low": 0.01, "high": 0.1, "log": True}},
    }


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds, and CPU seconds of all cores; CPU seconds say more on a machine that does other work too."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Seconds:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


@contextmanager
def prepare_training(database: Database, document: dict[str, Any]) -> Iterator[tuple[Any, dict[Any, Any]]]:
    """Claim a sweep's trials as one stack, as a worker does; yield the training and its runs."""
    with database.writing() as session:
        prepared = submission.prepare(session, document, max_trials=NUM_RUNS, max_parameters=10)
        sweeps.enqueue(session, submission.draft(prepared), max_queued_runs=NUM_RUNS)
    with database.writing() as session:
        (claims,) = claiming.claim_stacks(
            session, worker="w", devices=["auto"], lease_seconds=3600, max_stack_bytes=2**30
        )
    preparation = Preparation(database, "cpu")
    prepared_runs = [preparation.read(claim) for claim in claims]
    training, runs = preparation.make_training(prepared_runs)
    yield training, dict(zip(runs, prepared_runs, strict=True))


def time_training(document: dict[str, Any], *, is_evaluated: bool = True, is_recorded: bool = True) -> Seconds:
    """Measure a sweep's training in this process, from its first epoch to its last commit."""
    with TemporaryDirectory(prefix="digitlab-benchmark-") as folder:
        database = Database(f"sqlite:///{folder}/digitlab.db")
        migrate(database)
        register_datasets(database)
        with prepare_training(database, document) as (training, runs):
            epochs = document["base"]["training"]["epochs"]
            if not is_evaluated:
                slots = [run.slot for run in runs]
                started = Seconds.now()
                for epoch in range(epochs):
                    training.engine.train(slots, epoch + 1)
                return Seconds.now() - started
            recorder = Recorder(database, 1.0, lambda _claim: None) if is_recorded else None
            started = Seconds.now()
            if recorder is not None:
                recorder.start({run: prepared.claim for run, prepared in runs.items()}, {})
            for _ in range(epochs):
                if recorder is not None:
                    recorder.commit_if_due(training.active)
                for run, metrics in training.run_epoch():
                    if recorder is not None:
                        recorder.add(run, metrics)
            if recorder is not None:
                recorder.end({run: _outcome(run, prepared) for run, prepared in runs.items()})
                recorder.close()
            seconds = Seconds.now() - started
        database.close()
        return seconds


def _outcome(run: Any, prepared: Any) -> Outcome:
    return Succeeded(run.result(), prepared.config, prepared.images)


def measure_recording(repeats: int) -> None:
    time_training(recorded_sweep(1, epochs=2))  # warm-up: modules and kernels are loaded only once
    print("\nMicroseconds a run and step, the best of each: on the clock (of all cores)")
    print("| evaluated | engine | + evaluation | + recorder | over HTTP |")
    print("|---|---|---|---|---|")
    for evaluate_every in (1, 20):
        document = recorded_sweep(evaluate_every)
        columns: list[list[Seconds]] = []
        for _ in range(repeats):
            seconds = [
                time_training(document, is_evaluated=False),
                time_training(document, is_recorded=False),
                time_training(document),
            ]
            with TemporaryDirectory(prefix="digitlab-benchmark-") as folder, serve(Path(folder)) as client:
                seconds.append(Seconds(run_sweep(client, document)[0], math.nan))
            columns.append(seconds)
        cells = " | ".join(_best(column) for column in zip(*columns, strict=True))
        print(f"| every {evaluate_every} | {cells} |", flush=True)
    with TemporaryDirectory(prefix="digitlab-benchmark-") as folder, serve(Path(folder)) as client:
        before = _size_bytes(Path(folder))
        run_sweep(client, recorded_sweep(1, 1, NUM_LONG_EPOCHS))
        after = _size_bytes(Path(folder))
    print(f"\nA run of {NUM_LONG_EPOCHS:,} evaluated epochs: {(after - before) / NUM_LONG_EPOCHS:.0f} bytes a metric")


def measure_short_runs(repeats: int) -> None:
    document = recorded_sweep(1, NUM_SHORT_RUNS, NUM_SHORT_EPOCHS)
    for _ in range(repeats):
        with TemporaryDirectory(prefix="digitlab-benchmark-") as folder, serve(Path(folder)) as client:
            run_sweep(client, recorded_sweep(1, 4, 2))  # warm-up
            seconds, _ = run_sweep(client, document)
        print(f"{NUM_SHORT_RUNS:,} trials of {NUM_SHORT_EPOCHS} epochs over HTTP: {seconds:.1f} s", flush=True)


def _best(measured: Sequence[Seconds]) -> str:
    per_step = 1e6 / (NUM_RUNS * NUM_EPOCHS * STEPS_PER_EPOCH)
    wall, cpu = (min(getattr(each, name) for each in measured) * per_step for name in ("wall", "cpu"))
    return f"{wall:.2f}" if math.isnan(cpu) else f"{wall:.2f} ({cpu:.2f})"


def _size_bytes(folder: Path) -> int:
    """Return the size of the database file after its write-ahead log was written back."""
    with closing(sqlite3.connect(folder / "digitlab.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return (folder / "digitlab.db").stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sample", type=int, default=8, help="points of each batch size for scikit-learn [8]")
    parser.add_argument("--recording", action="store_true", help="measure what recording costs, and nothing else")
    parser.add_argument("--short", action="store_true", help="measure a sweep of many short runs, and nothing else")
    parser.add_argument("--repeats", type=int, default=3, help="of each measurement of recording or of short runs [3]")
    arguments = parser.parse_args()
    if arguments.recording:
        measure_recording(arguments.repeats)
        return
    if arguments.short:
        measure_short_runs(arguments.repeats)
        return
    os.environ["PYTHONWARNINGS"] = "ignore"  # each process would warn that training has not converged
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
