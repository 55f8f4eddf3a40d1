"""How deleting a large sweep affects a run and a writer: run by hand, in the repository's root, about ten minutes.

    python -m tests.benchmarks.deletion

The script fills a database with a sweep of 2,000 trials of 200 epochs, each with its metric and its event, and starts
`digitlab up` and a run. It deletes the sweep while the run is in training and a writer in this process writes every
50 ms.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event as Flag
from threading import Thread

import httpx2
from sqlalchemy import func, insert, select, update

from app.database import Database, migrate, utc_now
from app.settings import Settings
from app.tables import Event, EventCounter, EventType, Run
from app.tables.deletion import INCLUDE_DELETED
from tests.benchmarks.crowd import fill
from tests.benchmarks.sweep import serve
from tests.e2e.conftest import wait_for

PATIENCE_SECONDS = 900.0


class Writer(Thread):
    """Writes a row every 50 ms and records how long each write took."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self._is_stopping = Flag()
        self.seconds: list[float] = []

    def run(self) -> None:
        while not self._is_stopping.wait(0.05):
            started = time.monotonic()
            with self._database.writing() as session:
                session.execute(update(EventCounter).values(last_event_id=EventCounter.last_event_id))
            self.seconds.append(time.monotonic() - started)

    def stop(self) -> None:
        self._is_stopping.set()
        self.join()


def add_events(database: Database, sweep_id: str, epochs: int) -> None:
    """Add one event row per metric, as databases of earlier versions hold them."""
    with database.reading() as session:
        run_ids = session.scalars(select(Run.id).where(Run.sweep_id == sweep_id)).all()
    columns = {"sweep_id": sweep_id, "type": EventType.METRIC, "data": {"val_loss": 0.5, "val_accuracy": 0.9}}
    for run_id in run_ids:
        with database.writing() as session:
            counting = update(EventCounter).values(last_event_id=EventCounter.last_event_id + epochs)
            last_id = session.scalars(counting.returning(EventCounter.last_event_id)).one()
            ids = range(last_id - epochs + 1, last_id + 1)
            rows = [{**columns, "id": number, "run_id": run_id, "created_at": utc_now()} for number in ids]
            session.execute(insert(Event), rows)


def has_runs_beside(database: Database, run_id: str) -> bool:
    """Return whether the row of another run is left; a run's row is deleted after all rows that belong to the run."""
    with database.reading() as session:
        others = select(Run.id).where(Run.id != run_id).limit(1)
        return session.scalar(others, execution_options=INCLUDE_DELETED) is not None


def describe_files(folder: Path) -> str:
    files = sorted(folder.glob("digitlab.db*"))
    return ", ".join(f"{file.name} {file.stat().st_size / 2**20:.0f} MiB" for file in files)


def delete_beside_a_run(client: httpx2.Client, database: Database, folder: Path, sweep_id: str) -> None:
    """Print how long the deletion takes, and how it affects the writer and the run."""
    document = {"model": {"hidden_sizes": [256, 256]}, "training": {"epochs": 100_000, "evaluate_every": 20}}
    run = client.post("/runs", json=document).raise_for_status().json()
    wait_for(lambda: client.get(f"/runs/{run['id']}").json()["progress"]["epoch"] > 0, PATIENCE_SECONDS)
    writer = Writer(database)
    writer.start()
    started = time.monotonic()
    answer = client.delete(f"/sweeps/{sweep_id}")
    print(f"DELETE: {answer.status_code} after {time.monotonic() - started:.2f} s", flush=True)
    while has_runs_beside(database, run["id"]):
        time.sleep(1)
    print(f"the last row is gone after {time.monotonic() - started:.0f} s")
    writer.stop()
    print(f"longest wait of {len(writer.seconds)} writes beside it: {max(writer.seconds):.2f} s")
    after = client.get(f"/runs/{run['id']}").json()
    print(f"the run: {after['status']}, epoch {after['progress']['epoch']}")
    with database.reading() as session:
        claim_number = session.get_one(Run, run["id"]).claim_number
        lost = select(func.count()).select_from(Event).where(Event.type == EventType.WORKER_LOST)
        print(f"claims of the run: {claim_number}; workers lost: {session.scalars(lost).one()}")
    print(f"files: {describe_files(folder)}")
    client.post(f"/runs/{run['id']}/cancel")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=2000, help="of the sweep [2000]")
    parser.add_argument("--epochs", type=int, default=200, help="of each trial [200]")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="digitlab-deletion-") as name:
        folder = Path(name)
        database = Database(Settings(data_dir=folder).resolved_database_url)
        migrate(database)
        sweep_id = fill(database, arguments.trials, arguments.epochs)
        add_events(database, sweep_id, arguments.epochs)
        print(f"filled: {describe_files(folder)}", flush=True)
        with serve(folder) as client:
            delete_beside_a_run(client, database, folder, sweep_id)
        database.close()
        print(f"files after the end of all processes: {describe_files(folder)}")


if __name__ == "__main__":
    main()
