"""Operations on runs. This module imports no web framework; its errors (`AppError`) carry status and headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app import blobs
from app.database import Database, used_bytes
from app.datasets.catalog import DATASETS
from app.errors import (
    Conflict,
    DiskQuotaExceeded,
    FieldError,
    NotFound,
    QueueFull,
)
from app.events import journal
from app.events import repository as event_repository
from app.models import promotion
from app.models import repository as models
from app.presets.runs import get_preset
from app.queue import lifecycle
from app.run_config import SUBMITTED, Ensemble, RunConfig, complete
from app.run_costs import estimated_bytes
from app.runs import ensembles, repository
from app.runs.ensembles import Members
from app.runs.idempotency import Idempotency, insert_once, submit_once
from app.runs.schemas import RunLabels, RunPatch, RunSubmission
from app.tables import Checkpoint, EventType, Metric, PromotionReason, Run, RunStatus
from app.validation import invalid_document, invalid_input
from app.wording import count

QUEUE_FULL_RETRY_SECONDS = 5
NO_SWEEP_OF_ENSEMBLES = "An ensemble trains nothing that a sweep could search: submit it as a run (POST /runs)"
_WITHOUT_CHECKPOINTS = {"random_forest": "a forest has none", "ensemble": "an ensemble has none, its members have"}


@dataclass(frozen=True)
class Submission:
    """A validated submission: the run's labels and its complete configuration."""

    labels: RunLabels
    config: RunConfig
    members: Members | None = None  # of an ensemble

    @property
    def num_parameters(self) -> int | None:
        """Number of weights and biases; None for a forest."""
        return self.config.num_parameters if self.members is None else self.members.num_parameters

    @property
    def estimated_bytes(self) -> int:
        """Estimated bytes that the run adds to the database."""
        return estimated_bytes(self.config) + (0 if self.members is None else self.members.size_bytes)


def prepare(session: Session, document: Mapping[str, Any], *, for_sweep: bool = False) -> Submission:
    """Complete and validate a submission, without queueing anything.

    Args:
        session: Reads the run that `from_run` names, and an ensemble's members.
        document: The request's body: part of a `RunSubmission`.
        for_sweep: Whether it is a sweep's base, which is no ensemble.

    Raises:
        InvalidInput: The document is not valid; the error names every wrong place.
        NotFound: The document names a preset or a run that does not exist.
        Conflict: A run that the document names cannot be a member of this ensemble.
    """
    base = _base(session, document)
    overrides = {key: value for key, value in document.items() if key not in ("preset", "from_run")}
    completed = complete(base, overrides)
    try:
        submission = RunSubmission.model_validate(completed, context=SUBMITTED)
    except ValidationError as error:
        raise invalid_document(error, completed) from error
    if for_sweep and isinstance(submission.model, Ensemble):
        raise invalid_input([FieldError("#/model/kind", NO_SWEEP_OF_ENSEMBLES)])
    fold = submission.split.fold
    why = fold and submission.split.explain_folds(DATASETS[submission.dataset], fold.of)
    if why:
        raise invalid_input([FieldError("#/split/fold/of", why)])
    fields = submission.model_dump()
    labels = RunLabels.model_validate({name: fields[name] for name in RunLabels.model_fields})
    config = RunConfig.model_validate({name: fields[name] for name in RunConfig.model_fields})
    if not isinstance(config.model, Ensemble):
        return Submission(labels, config)
    members = ensembles.find_members(session, config.model)
    ensembles.check_data(config, overrides, members)
    config = config.model_copy(update={"dataset": members.dataset, "split": members.split})
    return Submission(labels, config, members)


def _base(session: Session, document: Mapping[str, Any]) -> Mapping[str, Any]:
    preset, from_run = document.get("preset"), document.get("from_run")
    for field, value in (("preset", preset), ("from_run", from_run)):
        if value is not None and not isinstance(value, str):
            raise invalid_input([FieldError(f"#/{field}", "Input should be a valid string")])
    if preset is not None and from_run is not None:
        raise invalid_input([FieldError("#/from_run", "Send either preset or from_run, not both")])
    if preset is not None:
        return get_preset(preset).config.model_dump()
    if from_run is not None:
        return get_run(session, from_run).config
    return RunConfig().model_dump()


def require_room(session: Session, number: int, max_queued_runs: int) -> None:
    """Check that `number` more runs may be queued; on Postgres, concurrent submissions are not counted.

    Raises:
        QueueFull: More than `max_queued_runs` runs would be queued.
    """
    queued = repository.count_queued(session)
    if queued + number > max_queued_runs:
        raise QueueFull(
            f"Queued: {count(queued, 'run')}; {number:,} more would be beyond {max_queued_runs:,} "
            "(DIGITLAB_MAX_QUEUED_RUNS); try again when some are done.",
            headers={"Retry-After": str(QUEUE_FULL_RETRY_SECONDS)},
        )


def require_space(session: Session, wanted: int, quota_bytes: int) -> None:
    """Check that the database has room for new runs. Runs that are queued or in training already are not stopped.

    Args:
        session: Reads the database's size.
        wanted: Estimated size of the runs to be queued, in bytes.
        quota_bytes: Largest size of the database, in bytes; 0: limited by the disk only.

    Raises:
        DiskQuotaExceeded: The database would be larger than `quota_bytes`.
    """
    if not quota_bytes:
        return
    used = used_bytes(session)
    if used + wanted > quota_bytes:
        raise DiskQuotaExceeded(
            f"The database holds {used:,} bytes, and this would add about {wanted:,}, beyond the {quota_bytes:,} that "
            "it may hold (DIGITLAB_DISK_QUOTA_BYTES). Delete runs or sweeps, or evaluate less often."
        )


def submit(
    database: Database,
    document: Mapping[str, Any],
    *,
    idempotency_key: str | None,
    max_queued_runs: int,
    disk_quota_bytes: int,
) -> Run:
    """Queue a run; the same key and document queue one run, however often they come.

    Args:
        database: Receives the run.
        document: The request's body: part of a `RunSubmission`.
        idempotency_key: The client's, if it sent one.
        max_queued_runs: The most runs that may be queued.
        disk_quota_bytes: The most bytes that the database may hold; 0: any number.

    Raises:
        InvalidInput: Something in the document is wrong, or the key came with another one before.
        NotFound: The document names a preset or a run that does not exist.
        Conflict: A run that the document names cannot be a member of this ensemble.
        QueueFull: There are `max_queued_runs` already.
        DiskQuotaExceeded: The run might not find room.
    """
    idempotency = Idempotency.of(idempotency_key, document)

    def prepare_run(session: Session) -> Submission:
        submission = prepare(session, document)
        require_space(session, submission.estimated_bytes, disk_quota_bytes)
        return submission

    return submit_once(
        database,
        Run,
        idempotency,
        prepare=prepare_run,
        enqueue=partial(enqueue, max_queued_runs=max_queued_runs, idempotency=idempotency),
    )


def enqueue(
    session: Session, submission: Submission, *, max_queued_runs: int, idempotency: Idempotency | None = None
) -> Run:
    """Queue a prepared run.

    Raises:
        QueueFull: `max_queued_runs` runs are queued already.
        InvalidInput: A concurrent submission used the same idempotency key with another body.
    """
    require_room(session, 1, max_queued_runs)
    run = lifecycle.new_run(submission.config, **submission.labels.model_dump())
    run.num_parameters = submission.num_parameters
    inserted = insert_once(session, run, idempotency)
    if inserted is run:
        lifecycle.enter_queue(session, run)
    return inserted


def get_run(session: Session, run_id: str) -> Run:
    run = repository.get(session, run_id)
    if run is None:
        raise _not_found(run_id)
    return run


def find_last_event(database: Database, run_id: str) -> int | None:
    """Return the id of the newest event of all runs if this run has ended, else None.

    Raises:
        NotFound: There is no such run.
    """
    with database.reading() as session:
        return event_repository.last_event_id(session) if get_run(session, run_id).status.is_finished() else None


def _not_found(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id}.", slug="run-not-found")


def change(session: Session, run_id: str, patch: RunPatch) -> Run:
    """Change a run's name, notes, tags or priority; fields that the patch omits or sets to null stay as they are."""
    run = _lock_run(session, run_id)
    for field, value in patch.model_dump(exclude_none=True).items():
        setattr(run, field, value)
    return run


def cancel(session: Session, run_id: str) -> Run:
    """Cancel an unfinished run: at once, or at the next epoch boundary if it is running.

    Raises:
        NotFound: There is no such run.
        Conflict: The run has succeeded or failed.
    """
    run = _lock_run(session, run_id)
    if run.status is RunStatus.RUNNING:
        run.cancel_requested = True
    elif run.status is not RunStatus.CANCELLED:
        _require_unfinished(run, "cancelled")
        lifecycle.end(session, run, RunStatus.CANCELLED)
    return run


def pause(session: Session, run_id: str) -> Run:
    """Pause a run without losing its progress: at once, or at the next epoch boundary if it is running.

    Raises:
        NotFound: There is no such run.
        Conflict: It is finished, or is being cancelled.
    """
    run = _lock_run(session, run_id)
    _require_unfinished(run, "paused")
    if run.status is RunStatus.RUNNING:
        run.pause_requested = True
    elif run.status is RunStatus.QUEUED:
        lifecycle.pause(session, run)
    return run


def resume(session: Session, run_id: str) -> Run:
    """Put a paused run back into the queue, or withdraw the request to pause a running one.

    Raises:
        NotFound: There is no such run.
        Conflict: It is finished, or is being cancelled.
    """
    run = _lock_run(session, run_id)
    _require_unfinished(run, "resumed")
    run.pause_requested = False
    if run.status is RunStatus.PAUSED:
        lifecycle.resume(session, run)
    return run


def delete(session: Session, run_id: str) -> None:
    """Delete a finished run and everything that it holds; if it was the champion, the next best model becomes champion.

    This function marks the run, which hides it; a worker deletes its rows later (`repository.purge_deleted`).

    Raises:
        NotFound: There is no such run.
        Conflict: The run is not finished, belongs to a sweep, or is the pinned champion.
    """
    run = _lock_run(session, run_id)
    if not run.status.is_finished():
        raise Conflict(f"The run is {run.status.value}: cancel it first.", slug="run-not-finished")
    if run.sweep_id is not None:
        raise Conflict(f"The run is a trial of sweep {run.sweep_id}; it goes when that does.", slug="trial-of-a-sweep")
    champion = models.get_champion(session)
    if champion is not None and champion.run_id == run.id and champion.reason is PromotionReason.PINNED:
        raise Conflict("The run is the pinned champion: choose another one first.", slug="pinned-champion")
    repository.mark_deleted(session, Run.id == run.id)
    journal.record(session, run, EventType.DELETED)
    promotion.elect(session)


def _lock_run(session: Session, run_id: str) -> Run:
    """Return a run, locked against changes by other transactions until this one ends."""
    run = repository.get_locked(session, run_id)
    if run is None:
        raise _not_found(run_id)
    return run


def _require_unfinished(run: Run, what: str) -> None:
    if run.status.is_finished():
        raise Conflict(f"The run has {_FINISHED[run.status]} already; it cannot be {what}.", slug="run-finished")
    if run.cancel_requested:
        raise Conflict(f"The run is being cancelled; it cannot be {what}.", slug="run-being-cancelled")


_FINISHED = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "been cancelled",
}


def history(
    session: Session, run: Run, *, after: int, until: int | None, limit: int | None, points: int | None
) -> Sequence[Metric]:
    """Return a run's metrics by epoch, of all epochs or a range: all, a page, or thinned to about `points`."""
    if points is not None:
        return repository.thinned_metrics(session, run.id, points, after_epoch=after, until=until)
    return repository.list_metrics(session, run.id, after_epoch=after, until=until, limit=limit)


def get_checkpoint(session: Session, run: Run, role: str) -> Checkpoint:
    """Return a checkpoint with its blob, verified against its sha256.

    Raises:
        NotFound: The run has no checkpoint in this role (yet).
        DamagedData: The blob does not match its sha256.
    """
    checkpoint = repository.get_checkpoint(session, run.id, role)
    if checkpoint is None:
        why = f"the run has {_FINISHED[run.status]}" if run.status.is_finished() else f"the run is {run.status.value}"
        if run.model_kind in _WITHOUT_CHECKPOINTS:
            why = _WITHOUT_CHECKPOINTS[run.model_kind]
        elif role == "last" and run.status.is_finished():
            why = "it goes some time after the run's end (DIGITLAB_LAST_CHECKPOINT_RETENTION_SECONDS)"
        raise NotFound(f"Run {run.id} has no checkpoint {role!r}: {why}.", slug="checkpoint-not-found")
    blobs.checked(checkpoint.blob, checkpoint.sha256, f"Checkpoint {role!r} of run {run.id}")
    return checkpoint
