"""Operations on sweeps. This module knows nothing of HTTP; its errors are from the `AppError` tree."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from app.database import Database, utc_now
from app.datasets.catalog import DATASETS
from app.errors import Conflict, NotFound
from app.events import journal
from app.events import repository as events
from app.models import promotion
from app.models import repository as models
from app.queue import lifecycle
from app.queue.cross_validation import RULE
from app.run_config import RunConfig
from app.run_costs import estimated_bytes
from app.runs import repository as run_repository
from app.runs import service as runs
from app.runs.idempotency import Idempotency, insert_once, submit_once
from app.sweeps import repository
from app.sweeps.answer import say
from app.sweeps.report import find_effects, find_pareto_front, judge_noise, rank_points, rank_trials
from app.sweeps.schemas import Choice, SweepReport
from app.sweeps.submission import Draft, draft, prepare
from app.sweeps.views import status_of
from app.tables import EventType, PromotionReason, Run, SavedModel, Sweep


def submit(
    database: Database,
    document: Mapping[str, Any],
    *,
    idempotency_key: str | None,
    max_trials: int,
    max_parameters: int,
    max_queued_runs: int,
    disk_quota_bytes: int,
) -> Sweep:
    """Queue all trials of a sweep; the same key and document queue them once, however often they come.

    Args:
        database: Receives the sweep and its trials.
        document: The request's body: part of a `SweepSubmission`.
        idempotency_key: The client's, if it sent one.
        max_trials: The most trials that a sweep may have.
        max_parameters: The most fields that a sweep may search.
        max_queued_runs: The most runs that may be queued.
        disk_quota_bytes: The most bytes that the database may hold; 0: any number.

    Raises:
        InvalidInput: Something in the document is wrong, or the key came with another one before.
        NotFound: The document names a preset or a run that does not exist.
        QueueFull: There would be more than `max_queued_runs`.
        DiskQuotaExceeded: The trials might not find room.
    """
    idempotency = Idempotency.of(idempotency_key, document)

    def prepare_rows(session: Session) -> Draft:
        prepared = prepare(session, document, max_trials=max_trials, max_parameters=max_parameters)
        wanted = sum(estimated_bytes(trial.config) for trial in prepared.trials)
        runs.require_space(session, wanted, disk_quota_bytes)
        return draft(prepared)

    return submit_once(
        database,
        Sweep,
        idempotency,
        prepare=prepare_rows,
        enqueue=partial(enqueue, max_queued_runs=max_queued_runs, idempotency=idempotency),
    )


def enqueue(session: Session, drafted: Draft, *, max_queued_runs: int, idempotency: Idempotency | None = None) -> Sweep:
    """Queue all trials of a sweep whose rows have been made.

    Raises:
        QueueFull: There would be more than `max_queued_runs`.
        InvalidInput: A concurrent submission used the same idempotency key with another body.
    """
    runs.require_room(session, len(drafted.trials), max_queued_runs)
    inserted = insert_once(session, drafted.sweep, idempotency)
    if inserted is drafted.sweep:
        data = {"status": "queued", "trials": len(drafted.trials)}
        journal.record_of_sweep(session, EventType.SWEEP_CREATED, inserted.id, **data)
        lifecycle.queue_all(session, drafted.trials)
    return inserted


def get_sweep(session: Session, sweep_id: str) -> Sweep:
    sweep = repository.get(session, sweep_id)
    if sweep is None:
        raise _not_found(sweep_id)
    return sweep


def cancel(session: Session, sweep_id: str) -> Sweep:
    """Cancel all unfinished trials: at once, or at the next epoch boundary if they are in training.

    Raises:
        NotFound: There is no such sweep.
        Conflict: All trials of the sweep have ended by themselves.
    """
    get_sweep(session, sweep_id)
    repository.lock_runs(session, sweep_id, only_unfinished=True)
    sweep = repository.lock(session, sweep_id)
    if sweep is None:
        raise _not_found(sweep_id)
    # Cross-validation may have chosen a point a moment ago, which queued another run.
    unfinished = repository.lock_runs(session, sweep_id, only_unfinished=True)
    if not unfinished and not sweep.is_cancelled:
        raise Conflict("All trials of the sweep have ended; it cannot be cancelled.", slug="sweep-finished")
    sweep.is_cancelled = True
    lifecycle.cancel_all(session, sweep_id, unfinished)
    return sweep


def delete(session: Session, sweep_id: str) -> None:
    """Delete a sweep whose trials have ended, and everything that they hold.

    This function marks the rows, which hides them; a worker deletes them later.

    Raises:
        NotFound: There is no such sweep.
        Conflict: A trial is not finished, or is the pinned champion.
    """
    get_sweep(session, sweep_id)
    trials = repository.lock_runs(session, sweep_id)
    sweep = repository.lock(session, sweep_id)
    if sweep is None:
        raise _not_found(sweep_id)
    if any(not run.status.is_finished() for run in trials) or repository.lock_runs(
        session, sweep_id, only_unfinished=True
    ):
        raise Conflict("Not all trials of the sweep have ended: cancel it first.", slug="sweep-not-finished")
    champion = models.get_champion(session)
    is_pinned = champion is not None and champion.reason is PromotionReason.PINNED
    if is_pinned and champion is not None and champion.run_id in {run.id for run in trials}:
        detail = f"Trial {champion.run_id} is the pinned champion: choose another one first."
        raise Conflict(detail, slug="pinned-champion")
    run_repository.mark_deleted(session, Run.sweep_id == sweep_id)
    for run in trials:
        journal.record_for(session, EventType.DELETED, run_id=run.id, sweep_id=sweep_id, data={})
    journal.record_of_sweep(session, EventType.SWEEP_DELETED, sweep_id)
    sweep.deleted_at, sweep.idempotency_key, sweep.submission_sha256 = utc_now(), None, None
    promotion.elect(session)


def _not_found(sweep_id: str) -> NotFound:
    return NotFound(f"There is no sweep {sweep_id}.", slug="sweep-not-found")


def report(session: Session, sweep: Sweep) -> SweepReport:
    """Report what the sweep has found so far."""
    trials = rank_trials(repository.read_trials(session, sweep.id), sweep.points)
    points = rank_points(trials, sweep.points)
    paths = list(dict.fromkeys(path for values in sweep.points for path in values))
    effects = find_effects(points, paths)
    base = RunConfig.model_validate(sweep.base)
    sizes = base.split.sizes(DATASETS[base.dataset].num_samples)
    num_val = sizes.val if sweep.num_folds is None else sizes.train // sweep.num_folds
    noise = judge_noise(points, with_folds=sweep.num_folds is not None, num_val=num_val)
    status, choice = status_of(sweep, repository.tally(session, [sweep.id])[sweep.id]), _read_choice(session, sweep)
    return SweepReport(
        sweep_id=sweep.id,
        name=sweep.name,
        status=status,
        paths=paths,
        answer=say(points, effects, noise, choice, is_over=status in ("succeeded", "failed", "cancelled")),
        trials=trials,
        noise=noise,
        points=points,
        effects=effects,
        pareto=find_pareto_front(points),
        choice=choice,
    )


def fingerprint(session: Session, sweep: Sweep) -> list[Any]:
    """Return values that differ whenever the sweep's report does; they cost much less than the report."""
    newest = events.last_of_sweep(session, sweep.id)
    return [sweep.id, sweep.is_cancelled, sweep.choice, newest, repository.fingerprint(session, sweep.id)]


def _read_choice(session: Session, sweep: Sweep) -> Choice | None:
    if sweep.choice is None:
        return None
    final = session.get_one(Run, sweep.choice["final_run_id"])
    model = session.get(SavedModel, final.id)
    return Choice(
        rule=RULE,
        parameters=sweep.points[sweep.choice["point_number"]],
        final_status=final.status.value,
        final_val_accuracy=None if model is None else model.val_accuracy,
        **sweep.choice,
    )


def picture_data(session: Session, sweep: Sweep) -> dict[str, Any]:
    """Return the data from which the report's picture is drawn."""
    found = report(session, sweep)
    curves = repository.read_curves(session, sweep.id)
    return {
        "report": found.model_dump(mode="json"),
        "curves": {trial.run_id: curves[trial.run_id] for trial in found.trials or () if trial.run_id in curves},
    }
