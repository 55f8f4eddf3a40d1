"""Puts what a training does into the database: every write in one transaction, fenced by the run's claim."""

from __future__ import annotations

import time
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from sqlalchemy.orm import Session

from app.database import Database
from app.models import promotion
from app.runs import queue
from app.runs.config import RunConfig
from app.runs.queue import Claim
from app.tables import Checkpoint, Evaluation, Metric, Run, RunStatus, SavedModel
from workers.training import Training
from workers.training.evaluation import Metrics
from workers.training.result import Result


class Recorder:
    """Collects a run's metrics and commits them, together with its checkpoints, every so often.

    Metrics never lie beyond the checkpoint that is committed with them, so that a client never sees an epoch twice.
    """

    def __init__(self, database: Database, claim: Claim, training: Training, commit_seconds: float) -> None:
        self._database = database
        self._claim = claim
        self._training = training
        self._commit_seconds = commit_seconds
        self._metrics: list[Metrics] = []
        self._last_commit = time.monotonic()
        self._last_epoch = training.epoch
        self._recorded_epoch = 0

    def start(self, provenance: dict[str, Any]) -> None:
        """Note where the run trains.

        Raises:
            StaleClaim: The run is no longer this worker's; so from every method.
        """
        with self._database.writing() as session:
            run = queue.fence(session, self._claim)
            run.provenance = provenance
            # A forest grows anew after an interruption; what was recorded of it stays as it is.
            self._recorded_epoch = run.epoch

    def add(self, metrics: Metrics) -> None:
        if metrics.epoch > self._recorded_epoch:
            self._metrics.append(metrics)

    def commit_if_due(self) -> None:
        if time.monotonic() - self._last_commit >= self._commit_seconds:
            self.commit()

    def commit(self) -> None:
        """Write metrics, checkpoints and progress so far."""
        with self._database.writing() as session:
            self._write_progress(session)

    def release(self) -> None:
        """Commit, and put the run back into the queue: the worker is stopping."""
        with self._database.writing() as session:
            self._write_progress(session)
            queue.release(session, self._claim)

    def cancel(self) -> None:
        """Commit, and end the run as cancelled."""
        with self._database.writing() as session:
            queue.end(self._write_progress(session), RunStatus.CANCELLED)

    def fail(self, code: str, detail: str) -> None:
        """End the run as failed; the metrics so far are kept, the state that failed is not."""
        with self._database.writing() as session:
            run = queue.fence(session, self._claim)
            self._write_metrics(session, run)
            queue.end(run, RunStatus.FAILED, code=code, detail=detail)

    def succeed(self, result: Result, model: bytes, config: RunConfig) -> None:
        """Commit everything that is left, save the model and its evaluation, and hold the champion's election."""
        with self._database.writing() as session:
            run = self._write_progress(session)
            run.num_parameters = result.num_parameters
            run.test_accuracy = result.test_accuracy
            session.add(_saved_model(run.id, result, model, is_canonical=config.split.is_canonical))
            for split, probabilities in (("val", result.val_probabilities), ("test", result.test_probabilities)):
                if probabilities is not None:
                    blob = probabilities.tobytes()
                    digest = sha256(blob).hexdigest()
                    session.add(Evaluation(run_id=run.id, split=split, probabilities=blob, sha256=digest))
            queue.end(run, RunStatus.SUCCEEDED)
            promotion.elect(session)

    def _write_progress(self, session: Session) -> Run:
        run = queue.fence(session, self._claim)
        self._write_metrics(session, run)
        for role, blob in self._training.checkpoints().items():
            epoch = self._training.best.epoch if role == "best" and self._training.best else self._training.epoch
            digest = sha256(blob).hexdigest()
            size = len(blob)
            session.merge(Checkpoint(run_id=run.id, role=role, epoch=epoch, blob=blob, sha256=digest, size_bytes=size))
        now = time.monotonic()
        if self._training.epoch > self._last_epoch:
            run.crashes_without_progress = 0
            run.epochs_per_second = (self._training.epoch - self._last_epoch) / (now - self._last_commit)
        self._last_commit, self._last_epoch = now, self._training.epoch
        run.epoch = max(run.epoch, self._training.epoch)
        run.training_seconds = self._training.seconds
        return run

    def _write_metrics(self, session: Session, run: Run) -> None:
        session.add_all(Metric(run_id=run.id, **asdict(metrics)) for metrics in self._metrics)
        self._metrics.clear()
        best = self._training.best
        if best is not None and best.epoch >= (run.best_epoch or 0):
            run.best_epoch, run.best_val_accuracy, run.best_val_loss = best.epoch, best.val_accuracy, best.val_loss


def _saved_model(run_id: str, result: Result, model: bytes, *, is_canonical: bool) -> SavedModel:
    return SavedModel(
        run_id=run_id,
        epoch=result.chosen.epoch,
        onnx=model,
        sha256=sha256(model).hexdigest(),
        size_bytes=len(model),
        num_parameters=result.num_parameters,
        train_accuracy=result.chosen.train_accuracy,
        val_accuracy=result.chosen.val_accuracy,
        val_loss=result.chosen.val_loss,
        on_canonical_split=is_canonical,
    )
