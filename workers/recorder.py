"""Writes metrics, checkpoints and outcomes of a training to the database, in a thread, so that training does not wait.

Every write of a run is fenced by its claim. A commit's metrics never go beyond its checkpoint, so a resumed run repeats
no epoch that a client has seen.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, tuple_, update
from sqlalchemy.orm import Session

from app import blobs
from app.database import Database, insert_plainly, to_json
from app.events import journal
from app.models import promotion
from app.queue import claiming, lifecycle
from app.queue.claiming import Claim
from app.run_config import RunConfig
from app.tables import Checkpoint, Evaluation, EventType, Metric, Run, RunStatus, SavedModel
from workers.training import TrainingRun, export, serialization
from workers.training.checkpoint import TrainingState
from workers.training.data import Pixels
from workers.training.evaluation import Best, Metrics
from workers.training.export import ExportMismatch
from workers.training.result import Result

logger = logging.getLogger(__name__)

# Limits of one transaction, so that no other process waits long for the write lock:
BYTES_PER_TRANSACTION = 4 * 2**20
RUNS_PER_TRANSACTION = 50


@dataclass(frozen=True)
class Succeeded:
    """The run is trained: its model is saved, after a check that the exported graph predicts as the network does."""

    result: Result
    config: RunConfig
    val_pixels: Pixels


@dataclass(frozen=True)
class Failed:
    code: str
    detail: str


@dataclass(frozen=True)
class Released:
    """The worker releases the run; its row says whether it was cancelled, paused, or returns to the queue."""


Outcome = Succeeded | Failed | Released


@dataclass(frozen=True)
class _Snapshot:
    """A run at an epoch boundary, with everything of it that the next commit writes."""

    claim: Claim
    epoch: int
    seconds: float
    epochs_per_second: float | None
    best: Best | None
    metrics: Sequence[Metrics]
    checkpoints: Mapping[str, TrainingState]  # by role
    outcome: Outcome | None = None

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for checkpoint in self.checkpoints.values() for array in checkpoint.arrays.values())


@dataclass
class _Recorded:
    """A run in training, and what has been recorded of it."""

    claim: Claim
    recorded_epoch: int  # metrics up to here are in the database; a resumed forest grows from its first tree again
    last_epoch: int
    last_seconds: float
    metrics: list[Metrics] = field(default_factory=list)


class Recorder:
    """Collects metrics and outcomes of the runs of a stack and commits them at intervals.

    Args:
        database: Receives the results.
        commit_seconds: The interval between commits; it is longer for large stacks.
        on_done: Called when a run's outcome has been committed or its claim is lost; in the recorder's thread, unless
            `start` finds the claim lost.
    """

    def __init__(self, database: Database, commit_seconds: float, on_done: Callable[[Claim], None]) -> None:
        self._database = database
        self._commit_seconds = commit_seconds
        self._on_done = on_done
        self._runs: dict[TrainingRun, _Recorded] = {}
        self._lost: set[Claim] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._pending: deque[Future[float]] = deque()
        self._failure: Exception | None = None  # of a commit; later commits raise it again
        self._busy_seconds = 0.0  # spent on taking snapshots and writing since the last pause
        self._next_commit = time.monotonic()  # the first epoch is committed at once, see `commit_if_due`

    def start(self, runs: Mapping[TrainingRun, Claim], provenance: Mapping[str, Any]) -> None:
        """Begin to record these runs, and write their provenance (device, engine) to their rows."""
        with self._database.writing() as session:
            rows = claiming.fence_all(session, list(runs.values()))
            for row in rows.values():
                row.provenance = dict(provenance)
        for run, claim in runs.items():
            if claim in rows:
                self._runs[run] = _Recorded(claim, rows[claim].epoch, run.epoch, run.seconds)
            else:
                self._lose(claim)

    def is_lost(self, run: TrainingRun) -> bool:
        """Whether the run's claim is no longer this worker's, so that nothing more of it can be recorded."""
        return run not in self._runs or self._runs[run].claim in self._lost

    def add(self, run: TrainingRun, metrics: Metrics) -> None:
        recorded = self._runs[run]
        if metrics.epoch > recorded.recorded_epoch:
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
            # A large stack is committed less often: the pause is at least nine times the busy time, so the recorder is
            # busy a tenth of the time at most.
            self._next_commit = time.monotonic() + max(self._commit_seconds, 9 * self._busy_seconds)
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

    def close(self) -> None:
        """Wait until everything is written."""
        self._thread.shutdown()
        self._collect_finished()

    def _is_further(self, run: TrainingRun) -> bool:
        return run.epoch > self._runs[run].last_epoch

    def _take_snapshot(self, run: TrainingRun, outcome: Outcome | None = None) -> _Snapshot:
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
        return _Snapshot(recorded.claim, run.epoch, run.seconds, speed, run.best, metrics, checkpoints, outcome)

    def _write(self, snapshots: Sequence[_Snapshot]) -> None:
        for part in _parts(snapshots):
            self._pending.append(self._thread.submit(self._commit, part))

    def _collect_finished(self) -> None:
        while self._pending and self._pending[0].done():
            self._busy_seconds += self._pending.popleft().result()

    def _commit(self, snapshots: Sequence[_Snapshot]) -> float:
        """Write one transaction, in the recorder's thread; returns the seconds that it took.

        Every commit that follows a failure fails too, since it builds on the data that was not written.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._commit_all(snapshots)
        except Exception as error:
            self._failure = error
            raise

    def _commit_all(self, snapshots: Sequence[_Snapshot]) -> float:
        started = time.monotonic()
        models = {snapshot.claim: _export(snapshot.outcome) for snapshot in snapshots}
        blobs = {snapshot.claim: _serialize(snapshot) for snapshot in snapshots}
        with self._database.writing() as session:
            rows = claiming.fence_all(session, models)
            held = [snapshot for snapshot in snapshots if snapshot.claim in rows]
            _insert_metrics(session, held)
            _replace_checkpoints(session, [blob for snapshot in held for blob in blobs[snapshot.claim]])
            _write_progress(session, rows, held)
            for snapshot in held:
                _write_events(session, rows[snapshot.claim], snapshot, blobs[snapshot.claim])
                _write_outcome(session, rows[snapshot.claim], snapshot, models[snapshot.claim])
            if any(isinstance(snapshot.outcome, Succeeded) for snapshot in held):
                promotion.elect(session)
        for snapshot in snapshots:
            if snapshot.claim not in rows:
                self._lose(snapshot.claim)
            elif snapshot.outcome is not None:
                self._on_done(snapshot.claim)
        return time.monotonic() - started

    def _lose(self, claim: Claim) -> None:
        logger.warning("Run %s is no longer this worker's; letting go of it", claim.run_id)
        self._lost.add(claim)
        self._on_done(claim)


def _parts(snapshots: Sequence[_Snapshot]) -> Iterator[list[_Snapshot]]:
    """Cut into lists that are each written in one transaction."""
    part: list[_Snapshot] = []
    size = 0
    for snapshot in snapshots:
        if part and (len(part) == RUNS_PER_TRANSACTION or size + snapshot.size_bytes > BYTES_PER_TRANSACTION):
            yield part
            part, size = [], 0
        part.append(snapshot)
        size += snapshot.size_bytes
    if part:
        yield part


def _export(outcome: Outcome | None) -> bytes | Failed | None:
    """A trained run's model as an ONNX graph, or the reason why it cannot be saved; None if the run is not trained."""
    if not isinstance(outcome, Succeeded):
        return None
    try:
        model = export.to_onnx(outcome.result.model, outcome.config.scaling)
        export.check(model, outcome.val_pixels, outcome.result.val_probabilities)
    except ExportMismatch as error:
        return Failed("export_mismatch", str(error))
    except Exception as error:
        logger.exception("The model could not be exported")
        return Failed("internal_error", f"{type(error).__name__}: {error}")
    return model


def _serialize(snapshot: _Snapshot) -> list[dict[str, Any]]:
    """The rows of the table `checkpoints` for a snapshot."""
    rows = []
    for role, checkpoint in snapshot.checkpoints.items():
        blob = serialization.to_bytes(checkpoint)
        row = {"run_id": snapshot.claim.run_id, "role": role, "epoch": checkpoint.epoch}
        rows.append({**row, "blob": blob, "sha256": blobs.digest(blob), "size_bytes": len(blob)})
    return rows


def _insert_metrics(session: Session, snapshots: Sequence[_Snapshot]) -> None:
    rows = [_row(snapshot.claim.run_id, metrics) for snapshot in snapshots for metrics in snapshot.metrics]
    insert_plainly(session, Metric, rows)


def _row(run_id: str, metrics: Metrics) -> tuple[Any, ...]:
    """A row of the table `metrics`, in the order of its columns."""
    return (
        run_id,
        metrics.epoch,
        metrics.train_loss,
        metrics.train_accuracy,
        metrics.train_eval_loss,
        metrics.train_eval_accuracy,
        metrics.val_loss,
        metrics.val_accuracy,
        None if metrics.gradient_norms is None else to_json(metrics.gradient_norms),
        None if metrics.weight_norms is None else to_json(metrics.weight_norms),
        metrics.seconds,
    )


def _replace_checkpoints(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Replace checkpoints in few statements, whatever their number, so that a large stack holds the lock briefly."""
    if rows:
        replaced = tuple_(Checkpoint.run_id, Checkpoint.role).in_([(row["run_id"], row["role"]) for row in rows])
        session.execute(delete(Checkpoint).where(replaced), execution_options={"synchronize_session": False})
        session.execute(insert(Checkpoint), rows)


def _write_progress(session: Session, rows: Mapping[Claim, Run], snapshots: Sequence[_Snapshot]) -> None:
    """Update all runs that continue in one statement; SQLAlchemy's update of changed rows would take one per run."""
    updates = []
    for snapshot in snapshots:
        run = rows[snapshot.claim]
        progress = _progress(run, snapshot)
        if snapshot.outcome is None:
            updates.append({"id": run.id, **progress})
        else:  # `_write_outcome` reads and changes the row afterwards
            for name, value in progress.items():
                setattr(run, name, value)
    if updates:
        session.execute(update(Run), updates)


def _progress(run: Run, snapshot: _Snapshot) -> dict[str, Any]:
    """The columns of a run that describe its progress."""
    best, speed = snapshot.best, snapshot.epochs_per_second
    best_values = run.best_epoch, run.best_val_accuracy, run.best_val_loss
    if best is not None and best.epoch >= (run.best_epoch or 0):
        best_values = best.epoch, best.val_accuracy, best.val_loss
    is_further = snapshot.epoch > run.epoch  # a resumed forest repeats its trees, which is no progress
    return {
        **dict(zip(("best_epoch", "best_val_accuracy", "best_val_loss"), best_values, strict=True)),
        "crashes_without_progress": 0 if is_further else run.crashes_without_progress,
        "epochs_per_second": run.epochs_per_second if speed is None else speed,
        "epoch": max(run.epoch, snapshot.epoch),
        "training_seconds": snapshot.seconds,
    }


def _write_events(session: Session, run: Run, snapshot: _Snapshot, blobs: Sequence[dict[str, Any]]) -> None:
    journal.record_metrics(session, run, [metrics.epoch for metrics in snapshot.metrics])
    for row in blobs:
        data = {name: row[name] for name in ("role", "epoch", "sha256", "size_bytes")}
        journal.record(session, run, EventType.CHECKPOINT, **data)


def _write_outcome(session: Session, run: Run, snapshot: _Snapshot, model: bytes | Failed | None) -> None:
    outcome = model if isinstance(model, Failed) else snapshot.outcome
    if isinstance(outcome, Succeeded) and isinstance(model, bytes):
        _save_model(session, run, outcome, model)
        lifecycle.end(session, run, RunStatus.SUCCEEDED)
    elif isinstance(outcome, Failed):
        lifecycle.end(session, run, RunStatus.FAILED, code=outcome.code, detail=outcome.detail)
    elif isinstance(outcome, Released):
        lifecycle.release(session, run)


def _save_model(session: Session, run: Run, outcome: Succeeded, model: bytes) -> None:
    """Add the run's saved model and its evaluations."""
    result = outcome.result
    run.num_parameters, run.test_accuracy = result.num_parameters, result.test_accuracy
    session.add(
        SavedModel(
            run_id=run.id,
            epoch=result.chosen.epoch,
            onnx=model,
            sha256=blobs.digest(model),
            size_bytes=len(model),
            num_parameters=result.num_parameters,
            train_accuracy=result.chosen.train_accuracy,
            val_accuracy=result.chosen.val_accuracy,
            val_loss=result.chosen.val_loss,
            on_canonical_split=outcome.config.split.is_canonical,
        )
    )
    for split, probabilities in (("val", result.val_probabilities), ("test", result.test_probabilities)):
        if probabilities is not None:
            blob = probabilities.tobytes()
            digest = blobs.digest(blob)
            session.add(Evaluation(run_id=run.id, split=split, probabilities=blob, sha256=digest))
