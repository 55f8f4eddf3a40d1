"""What can be done with runs. Knows nothing of HTTP; raises from the `AppError` tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.errors import Conflict, DamagedData, FieldError, NotFound, QueueFull
from app.runs import queue, repository
from app.runs.config import CONFIG_VERSION, RunConfig, complete
from app.runs.presets import get_preset
from app.runs.schemas import RunLabels, RunPatch, RunSubmission
from app.tables import Checkpoint, Metric, Run, RunStatus
from app.validation import invalid_document, invalid_input

QUEUE_FULL_RETRY_SECONDS = 5


@dataclass(frozen=True)
class Submission:
    """A validated submission: the labels that it carries and the complete configuration."""

    labels: RunLabels
    config: RunConfig


def prepare(session: Session, document: Mapping[str, Any]) -> Submission:
    """Complete and validate a submission, without queueing anything.

    Args:
        session: To read the run that `from_run` names.
        document: The request's body: part of a `RunSubmission`.

    Raises:
        InvalidInput: Something in it is wrong; every place is named.
        NotFound: It names a preset or a run that does not exist.
    """
    base = _base(session, document)
    overrides = {key: value for key, value in document.items() if key not in ("preset", "from_run")}
    try:
        submission = RunSubmission.model_validate(complete(base, overrides))
    except ValidationError as error:
        raise invalid_document(error, document) from error
    fields = submission.model_dump()
    return Submission(
        RunLabels.model_validate({name: fields[name] for name in RunLabels.model_fields}),
        RunConfig.model_validate({name: fields[name] for name in RunConfig.model_fields}),
    )


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


def submit(session: Session, submission: Submission, *, max_queued_runs: int) -> Run:
    """Queue a run.

    Raises:
        QueueFull: There are `max_queued_runs` already.
    """
    if repository.count_queued(session) >= max_queued_runs:
        raise QueueFull(
            f"{max_queued_runs} runs are queued already (DIGITLAB_MAX_QUEUED_RUNS); try again when some are done.",
            headers={"Retry-After": str(QUEUE_FULL_RETRY_SECONDS)},
        )
    config = submission.config
    run = Run(
        **submission.labels.model_dump(),
        model_kind=config.model.kind,
        config=config.model_dump(),
        config_version=CONFIG_VERSION,
        device=config.device,
        stack_key=config.stack_key,
        seed=config.seed,
        epochs=config.epochs,
        num_parameters=config.num_parameters,
    )
    session.add(run)
    session.flush()
    return run


def get_run(session: Session, run_id: str) -> Run:
    run = repository.get(session, run_id)
    if run is None:
        raise NotFound(f"There is no run {run_id}.", slug="run-not-found")
    return run


def change(session: Session, run_id: str, patch: RunPatch) -> Run:
    """Give a run another name, other notes or other tags; what the patch leaves out or has as null stays."""
    run = get_run(session, run_id)
    for field, value in patch.model_dump(exclude_none=True).items():
        setattr(run, field, value)
    return run


def cancel(session: Session, run_id: str) -> Run:
    """End a run that is not finished: at once, or at the next epoch boundary if it is running.

    Raises:
        NotFound: There is no such run.
        Conflict: It has succeeded or failed.
    """
    run = get_run(session, run_id)
    if run.status is RunStatus.RUNNING:
        run.cancel_requested = True
    elif not run.status.is_finished():
        queue.end(run, RunStatus.CANCELLED)
    elif run.status is not RunStatus.CANCELLED:
        raise Conflict(f"The run has {run.status.value} already; it cannot be cancelled.", slug="run-finished")
    return run


def history(session: Session, run: Run, *, after: int, limit: int | None, points: int | None) -> Sequence[Metric]:
    """A run's metrics by epoch: all, a page, or thinned to about `points`."""
    if points is not None:
        return repository.thinned_metrics(session, run.id, points, run.best_epoch)
    return repository.list_metrics(session, run.id, after_epoch=after, limit=limit)


def get_checkpoint(session: Session, run: Run, role: str) -> Checkpoint:
    """A checkpoint with its blob, checked.

    Raises:
        NotFound: The run has none in this role, or none yet.
        DamagedData: The blob is not what was stored.
    """
    checkpoint = repository.get_checkpoint(session, run.id, role)
    if checkpoint is None:
        why = "a forest has none" if run.model_kind == "random_forest" else f"the run is {run.status.value}"
        raise NotFound(f"Run {run.id} has no checkpoint {role!r}: {why}.", slug="checkpoint-not-found")
    if sha256(checkpoint.blob).hexdigest() != checkpoint.sha256:
        raise DamagedData(f"Checkpoint {role!r} of run {run.id} does not match its sha256.")
    return checkpoint
