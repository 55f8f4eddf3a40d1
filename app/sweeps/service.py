"""Operations on sweeps. This module knows nothing of HTTP; its errors are from the `AppError` tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.database import Database, utc_now
from app.datasets.catalog import DATASETS
from app.errors import Conflict, FieldError, InvalidInput, NotFound
from app.events import journal
from app.models import promotion
from app.models import repository as models
from app.presets.sweeps import get_sweep_preset
from app.queue import lifecycle
from app.queue.cross_validation import RULE
from app.run_config import MAX_SEED, Mlp, RunConfig, complete
from app.runs import repository as run_repository
from app.runs import service as runs
from app.runs.idempotency import Idempotency, insert_once, submit_once
from app.sweeps import repository
from app.sweeps.report import find_effects, find_pareto_front, judge_noise, rank_points, rank_trials
from app.sweeps.schemas import Choice, SweepReport, SweepSubmission
from app.sweeps.search_space import Point, expand
from app.sweeps.views import status_of
from app.tables import EventType, PromotionReason, Run, SavedModel, Sweep, new_id
from app.validation import invalid_document, wrong_place


@dataclass(frozen=True)
class Trial:
    """A run of a sweep, before it is stored."""

    point_number: int
    config: RunConfig


@dataclass(frozen=True)
class Prepared:
    """A validated submission, expanded into points and trials."""

    submission: SweepSubmission
    base: RunConfig
    tags: Mapping[str, str]  # the base's and the sweep's
    points: Sequence[Point]
    trials: Sequence[Trial]


def prepare(session: Session, document: Mapping[str, Any], *, max_trials: int, max_parameters: int) -> Prepared:
    """Complete, validate and expand a submission, without queueing anything.

    Args:
        session: Reads the run that the base may name.
        document: The request's body: part of a `SweepSubmission`.
        max_trials: Largest number of trials of a sweep.
        max_parameters: Largest number of fields that a sweep may search.

    Raises:
        InvalidInput: The document is not valid; the error names every wrong place.
        NotFound: The document names a preset or a run that does not exist.
    """
    document = _with_preset(document)
    _check_extent(document, max_trials, max_parameters)
    try:
        submission = SweepSubmission.model_validate(document)
    except ValidationError as error:
        raise invalid_document(error, document) from error
    try:
        base = runs.prepare(session, submission.base)
    except InvalidInput as error:
        inside = [FieldError("#/base" + each.pointer[1:], each.detail) for each in error.errors]
        raise InvalidInput("#/base" + error.detail[1:], errors=inside) from None
    per_point = submission.repeats * (submission.cross_validation.folds if submission.cross_validation else 1)
    _check_rules(submission, base.config)
    if per_point > max_trials:
        detail = f"{per_point:,} trials a point are more than the {max_trials:,} of a sweep (DIGITLAB_MAX_TRIALS)"
        raise wrong_place("#/repeats", detail)
    points = expand(submission, base.config, max_points=max_trials // per_point)
    _check_points(submission, points)
    tags = {**base.labels.tags, **submission.tags}
    return Prepared(submission, base.config, tags, points, _list_trials(submission, points))


def _with_preset(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Lay the document over the preset that it names: `base` field by field, every other field as a whole.

    A document with `parameters` drops the preset's `points`, and the other way round.
    """
    name = document.get("preset")
    if name is None:
        return document
    if not isinstance(name, str):
        raise wrong_place("#/preset", "Input should be a valid string")
    preset = get_sweep_preset(name).sweep
    laid = {**preset, **document}
    if isinstance(document.get("base"), Mapping):
        laid["base"] = complete(preset.get("base", {}), document["base"])
    for one, other in (("parameters", "points"), ("points", "parameters")):
        if one in document and other not in document:
            laid.pop(other, None)
    return laid


def _check_extent(document: Mapping[str, Any], max_trials: int, max_parameters: int) -> None:
    """Refuse too many points or fields before any of them is validated."""
    parameters, points = document.get("parameters"), document.get("points")
    if isinstance(points, list) and len(points) > max_trials:
        detail = f"{len(points):,} points are more than the {max_trials:,} trials of a sweep (DIGITLAB_MAX_TRIALS)"
        raise wrong_place("#/points", detail)
    searched = [("#/parameters", parameters)]
    searched += [
        (f"#/points/{number}", point) for number, point in enumerate(points if isinstance(points, list) else ())
    ]
    for pointer, paths in searched:
        if isinstance(paths, Mapping) and len(paths) > max_parameters:
            detail = f"{len(paths):,} fields are more than the {max_parameters:,} of a sweep (DIGITLAB_MAX_PARAMETERS)"
            raise wrong_place(pointer, detail)


def _check_rules(submission: SweepSubmission, base: RunConfig) -> None:
    """Refuse options that exclude each other, whatever the points are."""
    if submission.cross_validation is None:
        return
    if submission.stopping is not None:
        detail = "With cross_validation every trial trains all its epochs: leave one of them out"
        raise wrong_place("#/stopping", detail)
    if base.split.fold is not None:
        raise wrong_place("#/base/split/fold", "cross_validation makes the folds itself: leave it out")
    if base.training is not None and base.training.early_stopping is not None:
        detail = "With cross_validation every trial trains its fixed number of epochs: leave it out"
        raise wrong_place("#/base/training/early_stopping", detail)


def _check_points(submission: SweepSubmission, points: Sequence[Point]) -> None:
    """Refuse points whose values conflict with the options of the sweep."""
    for point in points:
        config = point.config
        for path, place in point.places.items():
            if submission.repeats > 1 and path == "seed":
                raise wrong_place("#/repeats", "Repeats count up the seed: search it, or repeat, but not both")
            if submission.cross_validation is not None and path.startswith("split.fold"):
                raise wrong_place(place, "cross_validation makes the folds itself: leave it out")
        anywhere = next(iter(point.places.values()), "#/base")
        if submission.stopping is not None and not isinstance(config.model, Mlp):
            raise wrong_place(
                anywhere, "stopping does not go with a random_forest: its trees are no epochs to judge it by"
            )
        folds = submission.cross_validation.folds if submission.cross_validation else None
        fold = config.split.fold
        num_folds = folds or (fold.of if fold else 0)
        why = config.split.explain_folds(DATASETS[config.dataset], num_folds) if num_folds else None
        if why:
            splits = [place for path, place in point.places.items() if path.partition(".")[0] == "split"]
            raise wrong_place("#/cross_validation/folds" if folds else next(iter(splits), "#/base/split/fold/of"), why)
        if submission.cross_validation is not None and _stops_early(config):
            place = point.places.get("training.early_stopping", anywhere)
            raise wrong_place(place, "With cross_validation every trial trains its fixed number of epochs")


def _stops_early(config: RunConfig) -> bool:
    return config.training is not None and config.training.early_stopping is not None


def _list_trials(submission: SweepSubmission, points: Sequence[Point]) -> list[Trial]:
    """List the trials point by point, seed by seed, fold by fold."""
    num_folds = submission.cross_validation.folds if submission.cross_validation else 0
    trials = []
    for number, point in enumerate(points):
        for repeat in range(submission.repeats):
            document = point.config.model_dump()
            document["seed"] = (point.config.seed + repeat) % (MAX_SEED + 1)
            if not num_folds:
                trials.append(Trial(number, RunConfig.model_validate(document)))
                continue
            if document["training"] is not None:
                document["training"]["keep"] = "last"  # the fold must not choose the epoch either
            for fold in range(num_folds):
                document["split"]["fold"] = {"number": fold, "of": num_folds}
                trials.append(Trial(number, RunConfig.model_validate(document)))
    return trials


@dataclass(frozen=True)
class Draft:
    """The rows of a sweep, before they are written."""

    sweep: Sweep
    trials: Sequence[dict[str, Any]]


def draft(prepared: Prepared) -> Draft:
    """Make the rows of a sweep, without a database."""
    submission = prepared.submission
    folds, stopping = submission.cross_validation, submission.stopping
    sweep = Sweep(
        id=new_id(),
        name=submission.name,
        notes=submission.notes,
        tags=submission.tags,
        priority=submission.priority,
        base=prepared.base.model_dump(),
        search=submission.search.model_dump(),
        parameters=submission.parameters,
        points=[point.values for point in prepared.points],
        repeats=submission.repeats,
        num_folds=folds.folds if folds else None,
        stopping=stopping.model_dump() if stopping else None,
        num_trials=len(prepared.trials),
    )
    trials = [
        lifecycle.new_row(
            id=new_id(),
            config=trial.config,
            sweep_id=sweep.id,
            trial_number=number,
            point_number=trial.point_number,
            name=submission.name,
            tags=dict(prepared.tags),
            priority=submission.priority,
        )
        for number, trial in enumerate(prepared.trials)
    ]
    return Draft(sweep, trials)


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
        runs.require_space(session, [trial.config for trial in prepared.trials], disk_quota_bytes)
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
    sweep.deleted_at, sweep.idempotency_key, sweep.submission_sha256 = utc_now(), None, None
    promotion.elect(session)


def _not_found(sweep_id: str) -> NotFound:
    return NotFound(f"There is no sweep {sweep_id}.", slug="sweep-not-found")


def report(session: Session, sweep: Sweep) -> SweepReport:
    """Report what the sweep has found so far."""
    trials = rank_trials(repository.read_trials(session, sweep.id), sweep.points)
    points = rank_points(trials, sweep.points)
    paths = list(dict.fromkeys(path for values in sweep.points for path in values))
    base = RunConfig.model_validate(sweep.base)
    sizes = base.split.sizes(DATASETS[base.dataset].num_samples)
    num_val = sizes.val if sweep.num_folds is None else sizes.train // sweep.num_folds
    return SweepReport(
        sweep_id=sweep.id,
        name=sweep.name,
        status=status_of(sweep, repository.tally(session, [sweep.id])[sweep.id]),
        paths=paths,
        trials=trials,
        noise=judge_noise(points, with_folds=sweep.num_folds is not None, num_val=num_val),
        points=points,
        effects=find_effects(points, paths),
        pareto=find_pareto_front(points),
        choice=_read_choice(session, sweep),
    )


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
        "curves": {trial.run_id: curves[trial.run_id] for trial in found.trials if trial.run_id in curves},
    }
