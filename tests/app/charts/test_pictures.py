"""Pictures of sweeps: all kinds of reports are drawn, the bytes are reproducible, and labels are short."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Callable
from contextlib import closing
from functools import cache
from typing import Any

import pytest

from app.charts import sweep
from app.charts.labels import printable, value_label
from app.charts.renderer import Picture, Renderer
from app.parameter_names import parameter_names

LEARNING_RATE = "training.optimizer.learning_rate"
SIZES = "model.hidden_sizes"
GRID: dict[str, list[Any]] = {
    SIZES: [[12, 12], [16, 16], [50, 50], [128]],
    LEARNING_RATE: [0.003, 0.01, 0.03, 0.1, 0.3, 1.0],
    "model.activation": ["sigmoid", "tanh"],
    "training.batch_size": [16, 60],
}


Data = dict[str, Any]


def grid_points(parameters: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]


def random_points(num_points: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {
            LEARNING_RATE: 10 ** draw.uniform(-4, 0.5),
            "model.dropout": draw.uniform(0, 0.5),
            SIZES: draw.choice([[16], [32], [64], [32, 32], [64, 64]]),
            "training.batch_size": draw.randint(8, 128),
            "model.activation": draw.choice(["relu", "sigmoid", "tanh"]),
        }
        for _ in range(num_points)
    ]


def chart_data(points: list[dict[str, Any]], *, folds: int = 0, repeats: int = 1, epochs: int = 60) -> Data:
    """Make a report and curves like those of a sweep, without training a trial."""
    draw = random.Random(1)
    paths = list(dict.fromkeys(path for point in points for path in point))
    trials: list[dict[str, Any]] = []
    reports: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    for number, parameters in enumerate(points):
        rate = parameters.get(LEARNING_RATE, 0.05)
        sizes = parameters.get(SIZES, [16])
        num_parameters = sum(a * b + b for a, b in itertools.pairwise([64, *sizes, 10]))
        quality = 0.985 - 0.012 * (math.log10(rate) + 1) ** 2 - 0.3 / math.sqrt(num_parameters)
        quality = 0.11 if rate > 0.9 and draw.random() < 0.5 else quality
        scores = []
        for repeat in range(folds or repeats):
            run_id = f"run-{number}-{repeat}"
            best = min(1.0, quality + draw.gauss(0, 0.004))
            pace = draw.uniform(3, 15)
            scores.append(best)
            curves[run_id] = {
                "epochs": list(range(1, epochs + 1)),
                "val_accuracy": [
                    max(0.08, best - 0.8 * math.exp(-epoch / pace) + draw.gauss(0, 0.002))
                    for epoch in range(1, epochs + 1)
                ],
            }
            trials.append(
                {
                    "rank": 1,
                    "run_id": run_id,
                    "trial_number": len(trials),
                    "point_number": number,
                    "parameters": parameters,
                    "fold": repeat if folds else None,
                    "status": "succeeded",
                    "epoch": epochs,
                    "val_accuracy": best,
                    "epochs_to_plateau": round(5 * pace),
                    "num_parameters": num_parameters,
                }
            )
        reports.append(
            {
                "rank": 1,
                "point_number": number,
                "parameters": parameters,
                "num_trials": len(scores),
                "num_succeeded": len(scores),
                "mean_val_accuracy": sum(scores) / len(scores),
                "standard_error": 0.002 if len(scores) > 1 else None,
                "mean_epochs_to_plateau": 5 * pace,
                "num_parameters": num_parameters,
            }
        )
    reports.sort(key=lambda point: -point["mean_val_accuracy"])
    trials.sort(key=lambda trial: -trial["val_accuracy"])
    report = {
        "sweep_id": "01a20e0d-2749-744b-97b3-2c4e726a71a2",
        "name": "the coursework's question",
        "status": "succeeded",
        "paths": paths,
        "trials": trials,
        "points": reports,
        "noise": None,
        "effects": [
            {"path": path, "share_of_variance": 0.37 / (place + 1), "values": []} for place, path in enumerate(paths)
        ],
        "pareto": [point["point_number"] for point in reports if _is_on_front(point, reports)],
        "choice": _choice(reports[3 % len(reports)]) if folds else None,
    }
    return {"report": report, "curves": curves}


def _is_on_front(point: dict[str, Any], points: list[dict[str, Any]]) -> bool:
    def aims(of: dict[str, Any]) -> tuple[float, float, float]:
        return -of["mean_val_accuracy"], of["num_parameters"], of["mean_epochs_to_plateau"]

    return not any(
        aims(other) != aims(point) and all(a <= b for a, b in zip(aims(other), aims(point), strict=True))
        for other in points
    )


def _choice(point: dict[str, Any]) -> dict[str, Any]:
    return {
        "rule": "one standard error",
        "point_number": point["point_number"],
        "parameters": point["parameters"],
        "mean_val_accuracy": point["mean_val_accuracy"],
        "standard_error": 0.002,
        "final_run_id": "final",
        "final_status": "succeeded",
        "final_val_accuracy": 0.9731,
    }


def not_ended(status: str = "running") -> Data:
    data = chart_data(grid_points({LEARNING_RATE: [0.01, 0.1], SIZES: [[12], [16]]}))
    for point in data["report"]["points"]:
        point |= dict.fromkeys(("rank", "mean_val_accuracy", "mean_epochs_to_plateau"))
    for trial in data["report"]["trials"]:
        trial |= {"rank": None, "val_accuracy": None, "status": status}
    return data | {"report": data["report"] | {"status": status, "effects": [], "pareto": []}, "curves": {}}


def forest() -> Data:
    data = chart_data(grid_points({"model.trees": [10, 100, 1000], "model.max_depth": [None, 4, 8]}))
    for number, point in enumerate(data["report"]["points"]):
        point |= {"mean_epochs_to_plateau": None, "num_parameters": 4000 + 91_000 * number}
    return data | {"curves": {}}


def mostly_unknown() -> Data:
    data = chart_data(grid_points({LEARNING_RATE: [0.01, 0.1]}))
    for effect in data["report"]["effects"]:
        effect["share_of_variance"] = None
    for point in data["report"]["points"]:
        point |= {"num_parameters": None, "mean_epochs_to_plateau": None}
    data["curves"]["run-0-0"]["val_accuracy"][3] = None
    data["curves"]["run-1-0"] = {"epochs": [], "val_accuracy": []}
    return data


def oddly_named() -> Data:
    path = "training.optimizer.a_very_long_parameter_name_that_does_not_fit_into_its_panel"
    values = ["$x^$", "数字", "a\nb\tc", "🙂", "", {"kind": "adam", "learning_rate": 0.1}, [], True, None, "long" * 30]
    data = chart_data(grid_points({path: values, "model.kind": ["mlp"]}))
    return data | {"report": data["report"] | {"name": "$\\frac{ 数字 🙂 \n" + "very long name " * 30}}


def hopeless_value(num_values: int) -> Data:
    """Make a report in which one parameter is set only in points that lie below the visible range of the axis."""
    good, bad = [{LEARNING_RATE: 0.1}] * 200, [{"training.momentum": 0.9 + value / 1000} for value in range(num_values)]
    data = chart_data([*good, *bad])
    for point in data["report"]["points"]:
        if "training.momentum" in point["parameters"]:
            point["mean_val_accuracy"] = 0.1
    return data


def many_values(num_values: int) -> list[dict[str, Any]]:
    return grid_points({SIZES: [[10 + size, 10 + size] for size in range(num_values)]})


CASES: dict[str, Callable[[], Data]] = {
    "a grid": lambda: chart_data(grid_points(GRID)),
    "a random search of 200 trials": lambda: chart_data(random_points(200), epochs=300),
    "one parameter": lambda: chart_data(grid_points({LEARNING_RATE: GRID[LEARNING_RATE]}), repeats=3),
    "cross-validation": lambda: chart_data(grid_points({SIZES: GRID[SIZES], LEARNING_RATE: [0.01, 0.1]}), folds=5),
    "a single point": lambda: chart_data([{LEARNING_RATE: 0.1}]),
    "a single epoch": lambda: chart_data(grid_points({LEARNING_RATE: [0.01, 0.1]}), epochs=1),
    "no parameters": lambda: chart_data([{}], repeats=4),
    "points with different parameters": lambda: chart_data([{LEARNING_RATE: 0.1}, {SIZES: [12]}, {"training.seed": 0}]),
    "a zero among the values": lambda: chart_data(grid_points({"training.weight_decay": [0, 1e-5, 1e-3]})),
    "nothing has ended": not_ended,
    "everything has failed": lambda: not_ended("failed"),
    "no trials yet": lambda: not_ended() | {"report": not_ended()["report"] | {"trials": [], "points": []}},
    "a forest": forest,
    "much is null": mostly_unknown,
    "a value that always diverges": lambda: hopeless_value(1),
    "a range that always diverges": lambda: hopeless_value(20),
    "odd names": oddly_named,
    "ten sizes": lambda: chart_data(many_values(10)),
    "a hundred sizes": lambda: chart_data(many_values(100)),
    "thirty parameters": lambda: chart_data([{f"a.p{number}": trial for number in range(30)} for trial in range(4)]),
}


def png_size(picture: bytes) -> tuple[int, int]:
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


@cache
def drawn(case: str) -> bytes:
    """Draw each picture once and share it between all tests that use it."""
    return sweep.draw(CASES[case]())


@pytest.mark.parametrize("case", CASES)
def test_a_sweep_is_drawn(case: str) -> None:
    width, height = png_size(drawn(case))
    assert width == 1400
    assert height >= 1000


def test_more_parameters_make_a_higher_picture() -> None:
    heights = [
        png_size(sweep.draw(chart_data([{f"a.p{number}": trial for number in range(count)} for trial in range(2)])))[1]
        for count in (4, 5)
    ]
    heights.append(png_size(drawn("thirty parameters"))[1])
    assert heights == sorted(set(heights))


def test_the_same_sweep_gives_the_same_bytes() -> None:
    assert sweep.draw(CASES["one parameter"]()) == drawn("one parameter")


def test_the_picture_does_not_say_when_or_by_what_it_was_written() -> None:
    picture = drawn("a single point")
    assert b"tEXt" not in picture
    assert b"atplotlib" not in picture


@pytest.mark.parametrize(
    ("value", "label"),
    [([50, 50], "50-50"), (0.001, "0.001"), (True, "true"), (None, "null"), ("tanh", "tanh"), ([], "[]"), ("🙂", "□")],
)
def test_values_are_labelled_in_short(value: Any, label: str) -> None:
    assert value_label(value) == label


def test_a_parameter_is_named_by_as_many_of_its_last_parts_as_it_takes() -> None:
    names = parameter_names(["model.kind", "training.optimizer.kind", "training.optimizer.learning_rate"])
    assert list(names.values()) == ["model.kind", "optimizer.kind", "learning_rate"]


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    assert printable("a" * 50 + "z" * 50, 10) == "aaaaaa…zzz"


def test_a_picture_comes_from_another_process() -> None:
    with closing(Renderer()) as renderer:
        assert renderer.draw(Picture.SWEEP, CASES["a single point"]()) == drawn("a single point")
