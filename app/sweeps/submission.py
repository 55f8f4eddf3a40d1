"""From a submission's document to the rows of a sweep and its trials: completed, validated, expanded, not written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.datasets.catalog import DATASETS
from app.errors import FieldError, InvalidInput
from app.presets.sweeps import get_sweep_preset
from app.queue import lifecycle
from app.run_config import MAX_SEED, Ensemble, Fold, Mlp, RunConfig, complete
from app.runs import service as runs
from app.sweeps.schemas import SweepSubmission
from app.sweeps.search_space import Point, expand
from app.tables import Sweep, new_id
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
        base = runs.prepare(session, submission.base, for_sweep=True)
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
        if isinstance(config.model, Ensemble):
            places = [place for path, place in point.places.items() if path.partition(".")[0] == "model"]
            raise wrong_place(next(iter(places), anywhere), runs.NO_SWEEP_OF_ENSEMBLES)
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
        if folds and config.training is not None:
            split, num_samples = config.split, DATASETS[config.dataset].num_samples
            cut = [split.model_copy(update={"fold": Fold(number=number, of=folds)}) for number in range(folds)]
            why = config.training.explain_warm_up(min(each.sizes(num_samples).train for each in cut))
            if why:
                names = ("training.schedule.warmup_steps", "training.schedule", "training.epochs")
                place = next((point.places[name] for name in names if name in point.places), anywhere)
                raise wrong_place(place, f"{why} in the smallest fold")


def _stops_early(config: RunConfig) -> bool:
    return config.training is not None and config.training.early_stopping is not None


def _list_trials(submission: SweepSubmission, points: Sequence[Point]) -> list[Trial]:
    """List the trials point by point, seed by seed, fold by fold."""
    num_folds = submission.cross_validation.folds if submission.cross_validation else 0
    trials = []
    for number, point in enumerate(points):
        for repeat in range(submission.repeats):
            seed = (point.config.seed + repeat) % (MAX_SEED + 1)
            if not num_folds:
                trials.append(Trial(number, point.config.model_copy(update={"seed": seed})))  # any seed is valid
                continue
            document = {**point.config.model_dump(), "seed": seed}
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
