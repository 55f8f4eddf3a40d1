"""How many heavy reads at once affect other requests: run by hand, in the repository's root, about two minutes.

    python -m tests.benchmarks.crowd

The script fills a database with a sweep of 2,000 trials without training them, starts `digitlab api`, and sends 45
heavy requests at once. Meanwhile it sends readiness and predict requests and reads the API's memory from `/proc`.
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
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from sqlalchemy import insert

from app.database import Database, migrate
from app.models import promotion
from app.run_config import RunConfig
from app.settings import Settings
from app.tables import Metric, Run, RunStatus, SavedModel, Sweep
from tests.graphs import random_graph

LEARNING_RATE = "training.optimizer.learning_rate"


def fill(database: Database, num_trials: int, num_epochs: int) -> str:
    """Add a sweep whose trials have all succeeded; return its id."""
    draw = random.Random(0)
    base = RunConfig()
    points = [{LEARNING_RATE: 10 ** draw.uniform(-4, 0)} for _ in range(num_trials)]
    graph = random_graph()
    model = {"onnx": graph, "sha256": sha256(graph).hexdigest(), "size_bytes": len(graph), "num_parameters": 610}
    with database.writing() as session:
        sweep = Sweep(
            base=base.model_dump(mode="json"),
            search={"kind": "list"},
            points=points,
            num_trials=num_trials,
            name="crowd",
        )
        session.add(sweep)
        session.flush()
        for number in range(num_trials):
            best = draw.uniform(0.9, 0.98)
            run = Run(
                model_kind=base.model.kind,
                config=base.model_dump(mode="json"),
                device=base.device,
                seed=number,
                epochs=num_epochs,
                epoch=num_epochs,
                status=RunStatus.SUCCEEDED,
                sweep_id=sweep.id,
                trial_number=number,
                point_number=number,
                num_parameters=610,
                best_epoch=num_epochs,
                best_val_accuracy=best,
                best_val_loss=1 - best,
            )
            session.add(run)
            session.flush()
            constant = {"train_loss": 0.1, "train_accuracy": 0.9, "val_loss": 1 - best}
            constant |= {"train_eval_loss": 0.1, "train_eval_accuracy": 0.9}
            scores = {"val_accuracy": best, "val_loss": 1 - best, "train_accuracy": 1.0}
            session.add(SavedModel(run_id=run.id, epoch=num_epochs, on_canonical_split=True, **scores, **model))
            metrics = [
                {"epoch": epoch, "val_accuracy": best * epoch / num_epochs, "seconds": 0.01 * epoch}
                for epoch in range(1, num_epochs + 1)
            ]
            session.execute(insert(Metric), [{"run_id": run.id, **constant, **each} for each in metrics])
        promotion.elect(session)
        return sweep.id


@contextmanager
def serve_api(folder: Path) -> Iterator[tuple[str, int]]:
    """Run `digitlab api` with default settings; yield its address and process id."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIGITLAB_")}
    environment["DIGITLAB_DATA_DIR"] = str(folder)
    command = [sys.executable, "-m", "app.cli", "api", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/health/ready").status_code == 200:
                    break
            time.sleep(0.1)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def resident_bytes(process_id: int) -> int:
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def ask_at_once(url: str, process_id: int, path: str, number: int) -> None:
    """Print the statuses of the responses, and the times of readiness and predictions and the memory meanwhile."""

    def ask(_: int) -> str:
        try:
            return str(httpx2.get(url + path, timeout=300).status_code)
        except httpx2.TransportError as error:
            return type(error).__name__

    image = {"instances": [[[0] * 8] * 8]}
    before, peak = resident_bytes(process_id), 0
    longest = {"ready": 0.0, "predict": 0.0}
    started = time.perf_counter()
    with ThreadPoolExecutor(number) as pool, httpx2.Client(base_url=url, timeout=300) as client:
        waiting = [pool.submit(ask, each) for each in range(number)]
        while not all(each.done() for each in waiting):
            for name in longest:
                asked = time.perf_counter()
                if name == "ready":
                    client.get("/health/ready").raise_for_status()
                else:
                    client.post("/predict", json=image).raise_for_status()
                longest[name] = max(longest[name], time.perf_counter() - asked)
            peak = max(peak, resident_bytes(process_id))
            time.sleep(0.05)
        answers = Counter(each.result() for each in waiting)
    print(
        f"{number} × {path.rpartition('/')[2]}: {dict(answers)} in {time.perf_counter() - started:.1f} s; longest "
        f"/health/ready {longest['ready']:.2f} s, /predict {longest['predict']:.2f} s; "
        f"memory {before / 1e6:.0f} → {peak / 1e6:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--number", type=int, default=45, help="requests at once [45]")
    parser.add_argument("--trials", type=int, default=2000, help="of the sweep [2000]")
    parser.add_argument("--epochs", type=int, default=50, help="of each trial [50]")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="digitlab-crowd-") as name:
        folder = Path(name)
        database = Database(Settings(data_dir=folder).resolved_database_url)
        migrate(database)
        sweep_id = fill(database, arguments.trials, arguments.epochs)
        database.close()
        for path in (f"/sweeps/{sweep_id}/report.png", f"/sweeps/{sweep_id}/report"):
            with serve_api(folder) as (url, process_id):
                ask_at_once(url, process_id, path, arguments.number)


if __name__ == "__main__":
    main()
