"""Writes metrics, checkpoints and outcomes of a training to the database, in threads, so that training does not wait.

One thread prepares what is written (serialization, export, evaluation) while another one writes what it has prepared.
Every write of a run is fenced by its claim. A network's metrics never go beyond the checkpoint of their commit, and
`add` drops the epochs that a resumed forest repeats: a client sees no epoch twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update

from app.database import Database
from app.queue import claiming
from app.queue.claiming import Claim
from app.tables import Run
from workers import results
from workers.results import Failed, Outcome, Prepared, Snapshot
from workers.training import TrainingRun
from workers.training.evaluation import Metrics

logger = logging.getLogger(__name__)

# Limits of one transaction, so that no other process waits long for the write lock:
BYTES_PER_TRANSACTION = 4 * 2**20
RUNS_PER_TRANSACTION = 50
MAX_PAUSE_SECONDS = 30.0  # a large stack's pause; also after a commit that waited long for a lock
PREPARED_AHEAD = 2  # transactions at once, prepared or being written, since what is prepared takes memory


def find_pause(commit_seconds: float, busy_seconds: float) -> float:
    """The pause after a commit that kept the recorder busy for so long.

    A large stack is committed less often: nine times the busy time leaves the recorder busy a tenth of the time.
    """
    return max(commit_seconds, min(9 * busy_seconds, MAX_PAUSE_SECONDS))


@dataclass
class _Recorded:
    """A run in training, and what has been recorded of it."""

    claim: Claim
    epoch_at_claim: int  # older metrics are in the database; a resumed forest grows from its first tree again
    last_epoch: int
    last_seconds: float
    metrics: list[Metrics] = field(default_factory=list)


class Recorder:
    """Collects metrics and outcomes of the runs of a claim and commits them at intervals.

    Args:
        database: Receives the results.
        commit_seconds: The interval between commits; it is longer for many runs.
        on_done: Called when a run's outcome has been committed or its claim is lost; in the recorder's thread, unless
            `start` finds the claim lost.
    """

    def __init__(self, database: Database, commit_seconds: float, on_done: Callable[[Claim], None]) -> None:
        self._database = database
        self._commit_seconds = commit_seconds
        self._on_done = on_done
        self._runs: dict[TrainingRun, _Recorded] = {}
        self._lost: set[Claim] = set()
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._room = threading.Semaphore(PREPARED_AHEAD)
        self._pending: deque[Future[float]] = deque()
        self._failure: Exception | None = None  # of a commit; later commits raise it again
        self._busy_seconds = 0.0  # spent on taking snapshots and writing since the last pause
        self._next_commit = time.monotonic()  # the first epoch is committed at once, see `commit_if_due`

    def start(self, runs: Mapping[TrainingRun, Claim], provenance: Mapping[str, Any]) -> None:
        """Begin to record these runs, and write their provenance (device, engine) to their rows."""
        with self._database.writing() as session:
            rows = claiming.fence_all(session, list(runs.values()))
            held = update(Run).where(Run.id.in_([claim.run_id for claim in rows]))  # one statement, whatever the number
            session.execute(held.values(provenance=dict(provenance)), execution_options={"synchronize_session": False})
        for run, claim in runs.items():
            if claim in rows:
                self._runs[run] = _Recorded(claim, rows[claim].epoch, run.epoch, run.seconds)
            else:
                self._lose(claim)

    def is_lost(self, run: TrainingRun) -> bool:
        """Whether the run's claim is no longer this worker's, so that nothing more of it can be recorded."""
        return run not in self._runs or (bool(self._lost) and self._runs[run].claim in self._lost)

    def add(self, run: TrainingRun, metrics: Metrics) -> None:
        recorded = self._runs[run]
        if metrics.epoch > recorded.epoch_at_claim:
            recorded.metrics.append(metrics)

    def commit_if_due(self, runs: Sequence[TrainingRun]) -> None:
        """Start to write the metrics, checkpoints and progress of all runs in training, if the interval has passed.

        The first commit follows the first epoch at once: a worker that is lost a moment later is then not counted as
        lost without progress.

        Raises:
            DBAPIError: An earlier write has failed; `end` and `close` raise it too.
        """
        self._collect_finished()
        if not self._pending and self._busy_seconds:
            self._next_commit = time.monotonic() + find_pause(self._commit_seconds, self._busy_seconds)
            self._busy_seconds = 0.0
        is_due = not self._pending and time.monotonic() >= self._next_commit
        if is_due and any(self._is_further(run) for run in runs):
            started = time.monotonic()
            self._write([self._take_snapshot(run) for run in runs])
            self._busy_seconds += time.monotonic() - started

    def end(self, outcomes: Mapping[TrainingRun, Outcome]) -> None:
        """Commit everything of these runs that is not committed yet, and their outcomes."""
        self._collect_finished()
        self._write([self._take_snapshot(run, outcome) for run, outcome in outcomes.items()])

    def wait(self) -> None:
        """Wait until everything is written that was recorded so far.

        Raises:
            Exception: A write has failed, of whatever run.
        """
        while self._pending:
            self._busy_seconds += self._pending.popleft().result()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Wait until everything is written, and end the threads."""
        self._preparing.shutdown()
        self._writing.shutdown()
        self._collect_finished()

    def _is_further(self, run: TrainingRun) -> bool:
        return run.epoch > self._runs[run].last_epoch

    def _take_snapshot(self, run: TrainingRun, outcome: Outcome | None = None) -> Snapshot:
        """Copy a run's state, so that the training can continue at once."""
        recorded = self._runs[run]
        checkpoints = run.take_checkpoints()
        if isinstance(outcome, Failed):
            checkpoints.pop("last", None)  # a failed run is not resumed
        speed = None
        if self._is_further(run):
            speed = (run.epoch - recorded.last_epoch) / (run.seconds - recorded.last_seconds)
        recorded.last_epoch, recorded.last_seconds = run.epoch, run.seconds
        metrics, recorded.metrics = recorded.metrics, []
        kept = run.take_snapshots()
        return Snapshot(recorded.claim, run.epoch, run.seconds, speed, run.best, metrics, checkpoints, outcome, kept)

    def _write(self, snapshots: Sequence[Snapshot]) -> None:
        for part in _parts(snapshots):
            prepared = self._preparing.submit(self._prepare, part)
            self._pending.append(self._writing.submit(self._commit, prepared))

    def _collect_finished(self) -> None:
        while self._pending and self._pending[0].done():
            self._busy_seconds += self._pending.popleft().result()

    def _prepare(self, snapshots: Sequence[Snapshot]) -> tuple[list[Prepared], float]:
        """Prepare one transaction, in a thread of its own; returns the seconds that it took, too."""
        self._room.acquire()  # `_commit` releases it
        if self._failure is not None:
            raise self._failure
        started = time.monotonic()
        prepared = [results.prepare(snapshot) for snapshot in snapshots]
        return prepared, time.monotonic() - started

    def _commit(self, preparing: Future[tuple[list[Prepared], float]]) -> float:
        """Write one transaction, in the recorder's thread; returns the seconds of preparing and writing.

        Every commit that follows a failure fails too, since it builds on the data that was not written.
        """
        try:
            prepared, seconds = preparing.result()
            if self._failure is not None:
                raise self._failure
            return seconds + self._commit_all(prepared)
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._room.release()

    def _commit_all(self, prepared: Sequence[Prepared]) -> float:
        started = time.monotonic()
        snapshots = [each.snapshot for each in prepared]
        with self._database.writing() as session:
            rows = claiming.fence_all(session, [snapshot.claim for snapshot in snapshots])
            results.write(session, rows, [each for each in prepared if each.snapshot.claim in rows])
        for snapshot in snapshots:
            if snapshot.claim not in rows:
                self._lose(snapshot.claim)
            elif snapshot.outcome is not None:
                self._on_done(snapshot.claim)
        return time.monotonic() - started

    def _lose(self, claim: Claim) -> None:
        logger.warning("Run %s is no longer this worker's; releasing it", claim.run_id)
        self._lost.add(claim)
        self._on_done(claim)


def _parts(snapshots: Sequence[Snapshot]) -> Iterator[list[Snapshot]]:
    """Cut into lists that are each written in one transaction."""
    part: list[Snapshot] = []
    size = 0
    for snapshot in snapshots:
        if part and (len(part) == RUNS_PER_TRANSACTION or size + snapshot.size_bytes > BYTES_PER_TRANSACTION):
            yield part
            part, size = [], 0
        part.append(snapshot)
        size += snapshot.size_bytes
    if part:
        yield part
