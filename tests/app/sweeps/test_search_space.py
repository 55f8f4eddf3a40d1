"""Search spaces: the points that they expand to, and the pointers in their errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.run_config import Mlp, RunConfig
from app.sweeps import search_space
from app.sweeps.schemas import Range, SweepSubmission
from app.sweeps.search_space import Point, expand

LEARNING_RATE = "training.optimizer.learning_rate"
RANGES = {
    "model.dropout": {"low": 0.1, "high": 0.5},
    LEARNING_RATE: {"low": 0.001, "high": 1.0, "log": True},
    "training.batch_size": {"low": 2, "high": 64, "log": True, "integer": True},
    "training.epochs": {"low": 10, "high": 12, "integer": True},
    "model.activation": ["relu", "tanh"],
}


def expanded(**document: Any) -> list[Point]:
    return expand(SweepSubmission.model_validate(document), RunConfig(), max_points=1000)


def test_a_grid_is_every_combination_and_the_last_parameter_changes_fastest() -> None:
    points = expanded(parameters={"model.hidden_sizes": [[12], [16, 16]], "model.activation": ["relu", "tanh"]})
    assert [[*point.values.values()] for point in points] == [
        [[12], "relu"],
        [[12], "tanh"],
        [[16, 16], "relu"],
        [[16, 16], "tanh"],
    ]
    assert points[3].config == RunConfig(model=Mlp(hidden_sizes=[16, 16], activation="tanh"))


def test_a_list_is_its_points_and_a_whole_object_may_be_a_value() -> None:
    points = expanded(search={"kind": "list"}, points=[{}, {"model": {"kind": "random_forest", "max_depth": 3}}])
    assert points[0].config == RunConfig()
    assert points[1].config.model.kind == "random_forest"
    assert points[1].config.training is None


def test_random_points_lie_in_their_ranges_and_are_the_same_for_the_same_seed() -> None:
    search = {"kind": "random", "trials": 300, "seed": 7}
    points = [point.values for point in expanded(search=search, parameters=RANGES)]
    assert points == [point.values for point in expanded(search=search, parameters=RANGES)]
    assert points != [point.values for point in expanded(search=search | {"seed": 8}, parameters=RANGES)]
    assert all(0.1 <= point["model.dropout"] <= 0.5 for point in points)
    assert {point["training.epochs"] for point in points} == {10, 11, 12}
    assert {point["model.activation"] for point in points} == {"relu", "tanh"}
    assert all(2 <= point["training.batch_size"] <= 64 for point in points)
    rates = sorted(point[LEARNING_RATE] for point in points)
    assert 0.001 <= rates[0] <= 0.0013
    assert 0.02 <= rates[150] <= 0.05  # uniform in the logarithm: the median is near √0.001
    batches = sorted(point["training.batch_size"] for point in points)
    assert batches[150] <= 16
    dropouts = sum(point["model.dropout"] for point in points) / 300
    assert math.isclose(dropouts, 0.3, abs_tol=0.03)


@given(st.floats(0, 1, exclude_max=True), st.booleans(), st.integers(1, 1000), st.integers(1, 1000))
def test_whole_numbers_stay_in_their_range(share: float, log: bool, low: int, extent: int) -> None:
    space = Range(low=low, high=low + extent, log=log, integer=True)
    value = search_space._draw_between(space, share)
    assert isinstance(value, int)
    assert low <= value <= low + extent


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "#/parameters"),
        ({"parameters": {}}, "#/parameters"),
        ({"parameters": {"model.dropout": []}}, "#/parameters/model.dropout"),
        ({"parameters": {"model.dropout": 0.1}}, "#/parameters/model.dropout"),
        ({"parameters": {"model.dropout": [0.1, "x", 0.2]}}, "#/parameters/model.dropout/1"),
        ({"parameters": {"model.dropout": [0.1, 0.1]}}, "#/parameters/model.dropout/1"),
        ({"parameters": {"model.dropout": [2**70]}}, "#/parameters/model.dropout/0"),
        ({"parameters": {"model.hidden_sizes": [[16], [16, "a"]]}}, "#/parameters/model.hidden_sizes/1/1"),
        ({"parameters": {"training.optimizer.lr": [0.1]}}, "#/parameters/training.optimizer.lr/0"),
        ({"parameters": {"optimizer.learning_rate": [0.1]}}, "#/parameters/optimizer.learning_rate"),
        ({"parameters": {"name": ["a"]}}, "#/parameters/name"),
        ({"parameters": {"seed.": [1]}}, "#/parameters/seed."),
        ({"parameters": {"seed.x": [1]}}, "#/parameters/seed.x/0"),
        ({"parameters": {"a/b": [1]}}, "#/parameters/a~1b"),
        ({"parameters": {"model": [{"kind": "mlp"}], "model.dropout": [0.1]}}, "#/parameters/model.dropout"),
        (
            {"parameters": {"training.optimizer": [{"kind": "adam"}, {"kind": "x"}]}},
            "#/parameters/training.optimizer/1",
        ),
        ({"parameters": {"model.dropout": {"low": 0.1, "high": 0.2}}}, "#/parameters/model.dropout"),
        ({"parameters": {"seed": list(range(1000)), "training.epochs": list(range(1, 1001))}}, "#/parameters"),
        ({"search": {"kind": "list"}}, "#/points"),
        ({"search": {"kind": "list"}, "points": []}, "#/points"),
        ({"search": {"kind": "list"}, "points": [{}], "parameters": {"seed": [1]}}, "#/parameters"),
        ({"search": {"kind": "list"}, "points": [{}, {"model.dropout": 2}]}, "#/points/1/model.dropout"),
        ({"search": {"kind": "list"}, "points": [{}, {"model.drop": 0}]}, "#/points/1/model.drop"),
        ({"search": {"kind": "list"}, "points": [{}] * 1001}, "#/points"),
        ({"points": [{}], "parameters": {"seed": [1]}}, "#/points"),
    ],
)
def test_what_is_wrong_is_pointed_at(document: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expanded(**document)
    assert pointer in [error.pointer for error in caught.value.errors]


@pytest.mark.parametrize(
    ("space", "pointer"),
    [
        ({"low": 1.0, "high": 1.0}, ""),
        ({"low": 0.0, "high": 1.0, "log": True}, ""),
        ({"low": 0.5, "high": 2.0, "integer": True}, ""),
        ({"low": 0.5}, "/high"),
        ({"low": 0.5, "high": "x"}, "/high"),
        ({"low": 0.5, "high": 1.0, "step": 0.1}, "/step"),
        ({"low": 0.5, "high": 2.0}, ""),  # beyond the range of dropout
    ],
)
def test_a_wrong_range_is_pointed_at(space: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expanded(search={"kind": "random", "trials": 20}, parameters={"model.dropout": space})
    assert caught.value.errors[0].pointer == f"#/parameters/model.dropout{pointer}"


def test_a_wrong_combination_is_pointed_at_from_all_its_values() -> None:
    with pytest.raises(InvalidInput) as caught:
        expanded(parameters={"training.epochs": [10, 100_000], "training.batch_size": [1]})
    assert {error.pointer for error in caught.value.errors} == {
        "#/parameters/training.epochs/1",
        "#/parameters/training.batch_size/0",
    }


def test_augmentation_and_schedule_can_be_searched_from_a_base_without_them() -> None:
    points = expanded(
        parameters={
            "training.augmentation.copies": [16, 256],
            "training.augmentation.strength": [0.5, 1.0],
            "training.schedule": [{"kind": "constant"}, {"kind": "cosine", "warmup_steps": 100}],
        }
    )
    assert len(points) == 8
    found = [point.config.augmentation for point in points]
    assert [(each.copies, each.strength) for each in found if each] == [
        (copies, strength) for copies in (16, 256) for strength in (0.5, 1.0) for _ in range(2)
    ]
    assert [point.config.training.schedule.kind for point in points if point.config.training] == [
        "constant",
        "cosine",
    ] * 4


def test_a_warm_up_can_be_searched_together_with_its_kind() -> None:
    points = expanded(
        parameters={"training.schedule.kind": ["cosine"], "training.schedule.warmup_steps": [0, 50]},
    )
    assert [point.config.training.schedule.model_dump() for point in points if point.config.training] == [
        {"kind": "cosine", "warmup_steps": warmup} for warmup in (0, 50)
    ]
    with pytest.raises(InvalidInput) as caught:
        expanded(parameters={"training.schedule.kind": ["cosine"], "training.schedule.warmup_steps": [50, 2000]})
    assert [error.pointer for error in caught.value.errors] == ["#/parameters/training.schedule.warmup_steps/1"]
