"""What is written of runs in training: metrics, checkpoints, progress, events, saved models. The recorder says when."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxruntime import InferenceSession
from sqlalchemy import delete, insert, tuple_, update
from sqlalchemy.orm import Session

from app import blobs
from app.database import insert_plainly, to_json
from app.events import journal
from app.models import promotion
from app.queue import lifecycle
from app.queue.claiming import Claim
from app.run_config import RunConfig
from app.tables import Checkpoint, Evaluation, EventType, Metric, Run, RunStatus, SavedModel
from app.tables import Snapshot as KeptSnapshot
from workers.training import export, serialization
from workers.training.checkpoint import TrainingState
from workers.training.evaluation import Best, Metrics
from workers.training.export import ExportMismatch
from workers.training.result import Result
from workers.training.shifted import Evaluation as ShiftedEvaluation
from workers.training.shifted import SplitImages, evaluate_session, run_on_val

logger = logging.getLogger(__name__)

SHOWN_WITH_A_RUN = "shifted_accuracy", "shifted_standard_error"  # columns of saved models that runs have too
EVALUATED = *SHOWN_WITH_A_RUN, "shifted_loss", "shifted_right", "sure_confidence", "max_energy", "max_distance"


@dataclass(frozen=True)
class Succeeded:
    """The run is trained: its model is saved, after a check that the exported graph predicts as the network does."""

    result: Result
    config: RunConfig
    images: SplitImages


@dataclass(frozen=True)
class Failed:
    code: str
    detail: str


@dataclass(frozen=True)
class Released:
    """The worker releases the run; its row says whether it was cancelled, paused, or returns to the queue."""


Outcome = Succeeded | Failed | Released


@dataclass(frozen=True)
class Snapshot:
    """A run at an epoch boundary, with everything of it that the next commit writes."""

    claim: Claim
    epoch: int
    seconds: float
    epochs_per_second: float | None
    best: Best | None
    metrics: Sequence[Metrics]
    checkpoints: Mapping[str, TrainingState]  # by role
    outcome: Outcome | None = None
    kept: Sequence[TrainingState] = ()  # for the table `snapshots`, by epoch

    @property
    def size_bytes(self) -> int:
        states = [*self.checkpoints.values(), *self.kept]
        return sum(array.nbytes for state in states for array in state.arrays.values())


@dataclass(frozen=True)
class Exported:
    """A trained model as it is saved: what a commit writes of it, apart from the outcome."""

    saved_model: dict[str, Any]  # row of the table `saved_models`
    evaluations: list[dict[str, Any]]  # rows of the table `evaluations`
    of_run: dict[str, Any]  # columns of the run that lists of runs show


@dataclass(frozen=True)
class Prepared:
    """A snapshot, with everything that takes long to make from it."""

    snapshot: Snapshot
    checkpoints: list[dict[str, Any]]  # rows of the table `checkpoints`
    kept: list[dict[str, Any]]  # rows of the table `snapshots`
    model: Exported | Failed | None  # see `_export`


def prepare(snapshot: Snapshot) -> Prepared:
    """Serialize a run's checkpoints, export and evaluate its model, before a transaction holds the write lock."""
    return Prepared(snapshot, _serialize(snapshot), _serialize_kept(snapshot), _export(snapshot))


def write(session: Session, rows: Mapping[Claim, Run], prepared: Sequence[Prepared]) -> None:
    """Write what was prepared, in few statements whatever the number of runs.

    Args:
        session: A writing session.
        rows: The fenced rows of all these runs.
        prepared: What is written; its order is that of the events.
    """
    snapshots = [each.snapshot for each in prepared]
    metrics = [_row(snapshot.claim.run_id, metrics) for snapshot in snapshots for metrics in snapshot.metrics]
    insert_plainly(session, Metric, metrics)
    _replace_checkpoints(session, [row for each in prepared for row in each.checkpoints])
    if kept := [row for each in prepared for row in each.kept]:
        session.connection().execute(insert(KeptSnapshot), kept)
    exported = [each.model for each in prepared if isinstance(each.model, Exported)]
    _insert_models(session, exported)  # before the outcomes: a sweep's last fold chooses by the saved models of all
    _write_progress(session, rows, snapshots)
    for each in prepared:
        run = rows[each.snapshot.claim]
        _write_events(session, run, each.snapshot, each.checkpoints)
        _write_outcome(session, run, each.snapshot, each.model)
    if saved := [each.saved_model["run_id"] for each in exported]:
        promotion.elect(session, newcomers=saved)


def _export(snapshot: Snapshot) -> Exported | Failed | None:
    """A trained run's model as it is saved, or the reason why it cannot be saved; None if the run is not trained."""
    outcome = snapshot.outcome
    if not isinstance(outcome, Succeeded):
        return None
    try:
        model = export.to_onnx(outcome.result.model, outcome.config.scaling)
        session = export.open_session(model)
        on_val = run_on_val(session, outcome.images)
        export.check(on_val, outcome.result.val_probabilities)
        evaluation = None if outcome.config.split.fold is not None else _evaluate(session, on_val, outcome.images)
    except ExportMismatch as error:
        return Failed("export_mismatch", str(error))
    except Exception as error:
        logger.exception("The model could not be exported")
        return Failed("internal_error", f"{type(error).__name__}: {error}")
    return _rows_of(snapshot.claim.run_id, outcome, model, evaluation)


def _evaluate(session: InferenceSession, on_val: export.Answers, images: SplitImages) -> ShiftedEvaluation | None:
    """Evaluate a graph on shifted val; None if that fails: the model is saved all the same, and evaluated later."""
    try:
        return evaluate_session(session, on_val, images)
    except Exception:
        logger.exception("The model could not be evaluated on shifted val")
        return None


def _rows_of(run_id: str, outcome: Succeeded, graph: bytes, evaluation: ShiftedEvaluation | None) -> Exported:
    """The rows of a saved model."""
    result = outcome.result
    saved_model = {
        "run_id": run_id,
        "epoch": result.chosen.epoch,
        "onnx": graph,
        "sha256": blobs.digest(graph),
        "size_bytes": len(graph),
        "num_parameters": result.num_parameters,
        "train_accuracy": result.chosen.train_accuracy,
        "val_accuracy": result.chosen.val_accuracy,
        "val_loss": result.chosen.val_loss,
        "on_canonical_split": outcome.config.split.is_canonical,
        **_columns(evaluation),
    }
    evaluations = []
    for split, probabilities in (("val", result.val_probabilities), ("test", result.test_probabilities)):
        if probabilities is not None:
            blob = probabilities.tobytes()
            row = {"run_id": run_id, "split": split, "probabilities": blob, "sha256": blobs.digest(blob)}
            evaluations.append(row)
    of_run = {name: saved_model[name] for name in ("num_parameters", *SHOWN_WITH_A_RUN)}
    return Exported(saved_model, evaluations, {**of_run, "test_accuracy": result.test_accuracy})


def _columns(evaluation: ShiftedEvaluation | None) -> dict[str, Any]:
    """The columns of a saved model that hold its evaluation on shifted val; None: they are null."""
    if evaluation is None:
        return dict.fromkeys(EVALUATED)
    thresholds = evaluation.thresholds
    values = (
        evaluation.accuracy,
        evaluation.standard_error,
        evaluation.loss,
        evaluation.right,
        thresholds.sure_confidence,
        thresholds.max_energy,
        thresholds.max_distance,
    )
    return dict(zip(EVALUATED, values, strict=True))


def store_evaluation(run: Run, model: SavedModel, evaluation: ShiftedEvaluation) -> None:
    """Set the columns of a saved model and its run that hold its evaluation on shifted val."""
    for name, value in _columns(evaluation).items():
        setattr(model, name, value)
        if name in SHOWN_WITH_A_RUN:
            setattr(run, name, value)


def _insert_models(session: Session, models: Sequence[Exported]) -> None:
    """Insert saved models and their evaluations by the connection: as ORM objects they would take twice as long."""
    if models:
        session.connection().execute(insert(SavedModel), [each.saved_model for each in models])
        session.connection().execute(insert(Evaluation), [row for each in models for row in each.evaluations])


def _serialize(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The rows of the table `checkpoints` for a snapshot."""
    rows = []
    for role, checkpoint in snapshot.checkpoints.items():
        blob = serialization.to_bytes(checkpoint)
        row = {"run_id": snapshot.claim.run_id, "role": role, "epoch": checkpoint.epoch}
        rows.append({**row, "blob": blob, "sha256": blobs.digest(blob), "size_bytes": len(blob)})
    return rows


def _serialize_kept(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The rows of the table `snapshots` for a snapshot."""
    rows = []
    for state in snapshot.kept:
        blob = serialization.to_bytes(state)
        row = {"run_id": snapshot.claim.run_id, "epoch": state.epoch}
        rows.append({**row, "blob": blob, "sha256": blobs.digest(blob)})
    return rows


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
        # The run ids alone too: SQLite finds pairs by no index, and would read the whole table.
        of_runs = Checkpoint.run_id.in_({row["run_id"] for row in rows})
        session.execute(delete(Checkpoint).where(of_runs, replaced), execution_options={"synchronize_session": False})
        session.connection().execute(insert(Checkpoint), rows)


def _write_progress(session: Session, rows: Mapping[Claim, Run], snapshots: Sequence[Snapshot]) -> None:
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


def _progress(run: Run, snapshot: Snapshot) -> dict[str, Any]:
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


def _write_events(session: Session, run: Run, snapshot: Snapshot, checkpoints: Sequence[dict[str, Any]]) -> None:
    journal.record_metrics(session, run, [metrics.epoch for metrics in snapshot.metrics])
    for row in checkpoints:
        data = {name: row[name] for name in ("role", "epoch", "sha256", "size_bytes")}
        journal.record(session, run, EventType.CHECKPOINT, **data)


def _write_outcome(session: Session, run: Run, snapshot: Snapshot, model: Exported | Failed | None) -> None:
    outcome = model if isinstance(model, Failed) else snapshot.outcome
    if isinstance(outcome, Succeeded) and isinstance(model, Exported):
        for name, value in model.of_run.items():
            setattr(run, name, value)
        lifecycle.end(session, run, RunStatus.SUCCEEDED)
    elif isinstance(outcome, Failed):
        lifecycle.end(session, run, RunStatus.FAILED, code=outcome.code, detail=outcome.detail)
    elif isinstance(outcome, Released):
        lifecycle.release(session, run)
