"""Expands a search into its points, and each point into a complete configuration; every error points at its value.

A point maps the dotted path of each searched field to a value. Expansion is deterministic.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import orjson
from pydantic import ValidationError

from app.errors import FieldError
from app.run_config import SUBMITTED, RunConfig, complete
from app.sweeps.schemas import GridSearch, ListSearch, RandomSearch, Range, SweepSubmission
from app.validation import escape_step, explain, invalid_input, json_pointer, wrong_place

MAX_ERRORS = 20  # after more errors than this, the remaining points are not validated

Values = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A point of the search, with its complete configuration."""

    values: Values
    places: Mapping[str, str]  # JSON pointer to each value in the submission, by path
    config: RunConfig


def expand(submission: SweepSubmission, base: RunConfig, *, max_points: int) -> list[Point]:
    """Expand a search into its points, in order.

    Args:
        submission: The validated submission of the sweep.
        base: Configuration that the points change.
        max_points: Largest number of points.

    Raises:
        InvalidInput: A path or a value is wrong, or there are too many points; no point is returned then.
    """
    found = _expand_list(submission) if isinstance(submission.search, ListSearch) else _expand_space(submission)
    num_points, pointer, points = found
    if num_points > max_points:
        detail = (
            f"{num_points:,} points are more than the {max_points:,} that this sweep may have (DIGITLAB_MAX_TRIALS)"
        )
        raise invalid_input([FieldError(pointer, detail)])
    errors: dict[FieldError, None] = {}
    wrong: set[str] = set()  # places of values that are wrong by themselves, in every point that has them
    expanded = []
    document = base.model_dump(mode="json")
    for values, places in points:
        if not wrong.isdisjoint(places.values()):
            continue
        completed = complete(document, _nest(values))
        try:
            config = RunConfig.model_validate(completed, context=SUBMITTED)
        except ValidationError as error:
            located, blamed = _locate(error, completed, values, places)
            errors |= dict.fromkeys(located)
            wrong |= blamed
            if len(errors) > MAX_ERRORS:
                break
        else:
            expanded.append(Point(values, places, config))
    if errors:
        raise invalid_input(errors)
    return expanded


_Points = Iterator[tuple[Values, Mapping[str, str]]]


def _expand_list(submission: SweepSubmission) -> tuple[int, str, _Points]:
    if submission.parameters is not None:
        raise wrong_place("#/parameters", "A list has `points` instead")
    if not submission.points:
        raise wrong_place("#/points", "A list needs at least one point: an object of values by dotted path")
    for number, values in enumerate(submission.points):
        _check_paths(list(values), f"#/points/{number}")

    def points() -> _Points:
        for number, values in enumerate(submission.points or []):
            yield values, {path: f"#/points/{number}/{escape_step(path)}" for path in values}

    return len(submission.points), "#/points", points()


def _expand_space(submission: SweepSubmission) -> tuple[int, str, _Points]:
    if submission.points is not None:
        raise wrong_place("#/points", "These are for a search of kind `list`; here, send `parameters`")
    if not submission.parameters:
        raise wrong_place("#/parameters", "Send at least one: a field's values by its dotted path")
    _check_paths(list(submission.parameters), "#/parameters")
    is_random = isinstance(submission.search, RandomSearch)
    spaces = {
        path: _read_space(value, f"#/parameters/{escape_step(path)}", takes_ranges=is_random)
        for path, value in submission.parameters.items()
    }
    if isinstance(submission.search, RandomSearch):
        return submission.search.trials, "#/search/trials", _draw(spaces, submission.search)
    assert isinstance(submission.search, GridSearch)
    lists = {path: values for path, values in spaces.items() if not isinstance(values, Range)}
    return math.prod(map(len, lists.values())), "#/parameters", _combine(lists)


def _read_space(value: Any, pointer: str, *, takes_ranges: bool) -> list[Any] | Range:
    if isinstance(value, dict):
        if not takes_ranges:
            raise wrong_place(pointer, "A grid takes a list of values; a range is for a search of kind `random`")
        try:
            return Range.model_validate(value)
        except ValidationError as error:
            details = error.errors(include_url=False)
            raise invalid_input(
                [FieldError(pointer + json_pointer(each["loc"], value), explain(each)) for each in details]
            ) from None
    if not isinstance(value, list) or not value:
        wanted = "a list of values, or a range" if takes_ranges else "a list of values"
        raise wrong_place(pointer, f"Send {wanted}: at least one")
    seen = set()
    for number, each in enumerate(value):
        try:
            text = orjson.dumps(each, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # an integer beyond 64 bits, or hundreds of lists in each other
            raise wrong_place(f"{pointer}/{number}", "No field takes such a value") from None
        if text in seen:
            raise wrong_place(f"{pointer}/{number}", "This value stands here twice")
        seen.add(text)
    return value


def _combine(lists: Mapping[str, list[Any]]) -> _Points:
    for numbers in product(*(range(len(values)) for values in lists.values())):
        chosen = dict(zip(lists, numbers, strict=True))
        values = {path: lists[path][number] for path, number in chosen.items()}
        yield values, {path: f"#/parameters/{escape_step(path)}/{number}" for path, number in chosen.items()}


def _draw(spaces: Mapping[str, list[Any] | Range], search: RandomSearch) -> _Points:
    generator = random.Random(search.seed)  # `random()` gives the same sequence in every Python version
    for _ in range(search.trials):
        values, places = {}, {}
        for path, space in spaces.items():
            share, place = generator.random(), f"#/parameters/{escape_step(path)}"
            if isinstance(space, Range):
                values[path], places[path] = _draw_between(space, share), place
            else:
                number = int(share * len(space))
                values[path], places[path] = space[number], f"{place}/{number}"
        yield values, places


def _draw_between(space: Range, share: float) -> float | int:
    """Return the quantile `share` (0 to 1) of the values that the range's distribution draws."""
    low, high = space.low, space.high
    if space.integer:
        high += 1
    if space.log:
        value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    else:
        value = low + share * (high - low)
    if space.integer:
        return max(int(low), min(math.floor(value), int(space.high)))  # rounding must not leave the range
    return min(max(value, low), high)


def _check_paths(paths: Sequence[str], pointer: str) -> None:
    errors = []
    given = set(paths)
    for path in paths:
        place, steps = f"{pointer}/{escape_step(path)}", path.split(".")
        if steps[0] not in RunConfig.model_fields or "" in steps:
            known = ", ".join(RunConfig.model_fields)
            errors.append(FieldError(place, f"There is no such field of a run's configuration; it has {known}"))
        outside = [".".join(steps[:number]) for number in range(1, len(steps))]
        errors += [
            FieldError(place, f"This lies inside {other!r}, which is given too") for other in outside if other in given
        ]
    if errors:
        raise invalid_input(errors)


def _nest(values: Values) -> dict[str, Any]:
    """Turn `{"model.dropout": 0.1}` into `{"model": {"dropout": 0.1}}`."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *parents, name = path.split(".")
        here = nested
        for parent in parents:
            here = here.setdefault(parent, {})
        here[name] = value
    return nested


def _locate(
    error: ValidationError, document: Mapping[str, Any], values: Values, places: Mapping[str, str]
) -> tuple[list[FieldError], set[str]]:
    """Assign a point's errors to the values at fault, or to all values if their combination is at fault.

    Returns:
        The errors, and the places of the values that are wrong by themselves.
    """
    found = []
    wrong_alone = set()
    for each in error.errors(include_url=False)[: MAX_ERRORS + 1]:
        wrong = json_pointer(each["loc"], document).removeprefix("/").replace("/", ".")
        blamed = [path for path in values if _overlap(path, wrong)]
        detail = explain(each)
        if not blamed:
            blamed = list(values)
            detail = f"{wrong or 'the configuration'}: {detail}" if wrong else detail
        for path in blamed[:1] if wrong else blamed:
            is_within = f"{wrong}.".startswith(f"{path}.")
            inside = wrong.removeprefix(path).replace(".", "/") if is_within else ""
            found.append(FieldError(places[path] + inside, detail))
            if is_within:
                wrong_alone.add(places[path])
    return found or [FieldError("#", "A point is not a valid configuration")], wrong_alone


def _overlap(path: str, other: str) -> bool:
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
