"""Says in a few sentences what a sweep has found. Pure: the parts of its report in, text out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import orjson

from app.parameter_names import parameter_names
from app.sweeps.schemas import Choice, Noise, ParameterEffect, PointReport
from app.wording import as_json, count

WEAK_SHARE = 0.05  # of the variance: a parameter that explains less decides nothing
MAX_LISTED = 4  # values of the second parameter, where the best value of the first depends on it


def say(
    points: Sequence[PointReport],
    effects: Sequence[ParameterEffect],
    noise: Noise | None,
    choice: Choice | None,
    *,
    is_over: bool,
) -> str:
    """Say what decides, which point is best, and how small one may be that is as good but for noise.

    Args:
        points: Points, best first.
        effects: Effects of the parameters, strongest first.
        noise: What is within noise of the best; None if no point has a mean val accuracy.
        choice: What cross-validation chose, if it did.
        is_over: Whether all trials have ended.
    """
    if noise is None:
        return "No trial has succeeded." if is_over else "No trial has succeeded yet."
    by_number = {point.point_number: point for point in points}
    names = parameter_names([effect.path for effect in effects])
    where = "on the folds" if noise.kind == "folds" or choice is not None else "on val"
    sentences = [
        *_say_what_decides(points, effects, names),
        _say_best(by_number, noise, names, where=where, is_over=is_over),
        *_say_noise(by_number, noise, names),
    ]
    if choice is not None:
        sentences.append(_say_choice(choice, names))
    return " ".join(sentences)


def _say_what_decides(
    points: Sequence[PointReport], effects: Sequence[ParameterEffect], names: Mapping[str, str]
) -> list[str]:
    shares = [effect for effect in effects if effect.share_of_variance is not None and _has_groups(effect)]
    if len(effects) < 2 or not shares:
        return []
    first = shares[0]
    share = first.share_of_variance or 0.0
    if any(_share_of_quarters(effect, points) > share for effect in effects if effect.share_of_variance is None):
        return []
    if share < WEAK_SHARE:
        return ["No parameter alone decides much."]
    sentence = f"{names[first.path]} decides most (alone {share:.0%} of the variance)".replace("%", " %")
    bests = _find_bests(points, first.path, shares[1].path) if len(shares) > 1 else []
    if bests:
        listed = (f"{names[shares[1].path]} {_show(other)} is best at {_show(value)}" for other, value in bests)
        sentence += ": " + ", ".join(listed)
    return [sentence + "."]


def _has_groups(effect: ParameterEffect) -> bool:
    """Whether a value has two points or more on average; values of one point each explain all variance, and nothing."""
    return sum(value.num_points for value in effect.values) >= 2 * len(effect.values)


def _share_of_quarters(effect: ParameterEffect, points: Sequence[PointReport]) -> float:
    """Return eta squared of a drawn parameter's quarters: a rough share, to compare with those of the report."""
    means = [
        point.mean_val_accuracy
        for point in points
        if point.mean_val_accuracy is not None and effect.path in point.parameters
    ]
    mean = fmean(means or [0.0])
    total = sum((value - mean) ** 2 for value in means)
    between = sum(value.num_points * (value.mean_val_accuracy - mean) ** 2 for value in effect.values)
    return between / total if total else 0.0


def _find_bests(points: Sequence[PointReport], path: str, other: str) -> list[tuple[Any, Any]]:
    """Find, for each value of one parameter, the value of another that does best with it; empty if it is always one."""
    found: dict[bytes, tuple[Any, Any]] = {}
    for point in points:  # best first
        if point.mean_val_accuracy is not None and path in point.parameters and other in point.parameters:
            key = orjson.dumps(point.parameters[other], option=orjson.OPT_SORT_KEYS)
            found.setdefault(key, (point.parameters[other], point.parameters[path]))
    values = {orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for _, value in found.values()}
    return list(found.values()) if len(values) > 1 and len(found) <= MAX_LISTED else []


def _say_best(
    by_number: Mapping[int, PointReport], noise: Noise, names: Mapping[str, str], *, where: str, is_over: bool
) -> str:
    best = by_number[noise.best_point]
    measured = _count_measured(by_number)
    accuracy = f"{100 * (best.mean_val_accuracy or 0.0):.2f} % {where}"
    if measured == 1:
        so_far = "" if is_over else " so far"
        return f"The only point with a result{so_far}, {_describe(best, names)}, has {accuracy}."
    return f"Of {count(measured, 'point')} the best is {_describe(best, names)}, with {accuracy}."


def _say_noise(by_number: Mapping[int, PointReport], noise: Noise, names: Mapping[str, str]) -> list[str]:
    if _count_measured(by_number) == 1:
        return []
    others = noise.num_within_noise - 1
    if others == 0:
        return ["No other is within noise of it."]
    sentence = f"{count(others, 'other')} {'is' if others == 1 else 'are'} within noise of it"
    best, smallest = by_number[noise.best_point], by_number[noise.smallest_point]
    if smallest is best or not best.num_parameters or smallest.num_parameters is None:
        return [f"{sentence}, and none of them is smaller."]
    share = smallest.num_parameters / best.num_parameters
    if share >= 1:
        return [f"{sentence}, and none of them is smaller."]
    return [f"{sentence}; the smallest, {_describe(smallest, names)}, needs {100 * share:.0f} % of its parameters."]


def _count_measured(by_number: Mapping[int, PointReport]) -> int:
    return sum(point.mean_val_accuracy is not None for point in by_number.values())


def _say_choice(choice: Choice, names: Mapping[str, str]) -> str:
    if choice.final_val_accuracy is None:
        result = f"its final run is {choice.final_status}"
    else:
        result = f"trained on all of train, it has {100 * choice.final_val_accuracy:.2f} % on val"
    values = _list_values(choice.parameters, names) or f"point {choice.point_number}"
    return f"Cross-validation chose {values}: {result}."


def _describe(point: PointReport, names: Mapping[str, str]) -> str:
    return _list_values(point.parameters, names) or f"point {point.point_number}"


def _list_values(parameters: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return ", ".join(f"{names.get(path, path)} {_show(value)}" for path, value in parameters.items())


def _show(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, int) for each in value):
        return "-".join(map(str, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else as_json(value)
