"""What a report says in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.sweeps.answer import say
from app.sweeps.report import find_effects, judge_noise, rank_points, rank_trials
from app.sweeps.schemas import Choice
from tests.app.sweeps.test_report import row

RATE, SIZES = "training.optimizer.learning_rate", "model.hidden_sizes"


def answer(
    values: Sequence[Mapping[str, Any]],
    accuracies: Sequence[float | None],
    sizes: Sequence[int] | None = None,
    choice: Choice | None = None,
    **options: Any,
) -> str:
    sizes = sizes or [100] * len(values)
    rows = [
        row(number, number, accuracy, num_parameters=size)
        for number, (accuracy, size) in enumerate(zip(accuracies, sizes, strict=True))
    ]
    points = rank_points(rank_trials(rows, values), values)
    effects = find_effects(points, list(dict.fromkeys(path for each in values for path in each)))
    noise = judge_noise(points, with_folds=choice is not None, num_val=540)
    return say(points, effects, noise, choice, **{"is_over": True, **options})


def test_the_strongest_parameter_the_best_point_and_the_smallest_within_noise() -> None:
    values = [{RATE: rate, SIZES: sizes} for rate in (0.01, 0.1) for sizes in ([12, 12], [16])]
    assert answer(values, [0.80, 0.81, 0.975, 0.98], [500, 900, 500, 900]) == (
        "learning_rate decides most (alone 100 % of the variance). "
        "Of 4 points the best is learning_rate 0.1, hidden_sizes 16, with 98.00 % on val. "
        "1 other is within noise of it; the smallest, learning_rate 0.1, hidden_sizes 12-12, needs 56 % of its "
        "parameters."
    )


def test_where_two_parameters_interact_the_best_value_depends_on_the_other() -> None:
    values = [{"rate": rate, "kind": kind} for rate in (0.01, 0.1) for kind in ("sgd", "adam")]
    assert answer(values, [0.7, 0.98, 0.9, 0.85]) == (
        "kind decides most (alone 32 % of the variance): rate 0.01 is best at adam, rate 0.1 is best at sgd. "
        "Of 4 points the best is rate 0.01, kind adam, with 98.00 % on val. No other is within noise of it."
    )


def test_one_parameter_a_drawn_one_and_none_that_decides() -> None:
    assert answer([{"rate": 1}, {"rate": 2}], [0.5, 0.9]) == (
        "Of 2 points the best is rate 2, with 90.00 % on val. No other is within noise of it."
    )
    drawn = [{"rate": 0.1 + number / 100, "other": number / 7} for number in range(20)]
    assert answer(drawn, [0.5 + number / 50 for number in range(20)]).startswith("Of 20 points the best is rate 0.29, ")
    balanced = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
    assert answer(balanced, [0.90, 0.95, 0.95, 0.90]).startswith("No parameter alone decides much. Of 4 points")


def test_a_drawn_parameter_is_not_overlooked_and_single_values_decide_nothing() -> None:
    drawn = [{"rate": number / 20, "kind": "ab"[number % 2]} for number in range(20)]
    by_rate = answer(drawn, [0.5 + number / 50 + (number % 2) / 15 for number in range(20)])
    assert by_rate.startswith("Of 20 points"), "kind alone explains 12 %, rate nearly all"
    unfinished: list[dict[str, Any]] = [*drawn, {"late": 1}]
    assert answer(unfinished, [*(0.5 + number % 2 / 5 for number in range(20)), None]).startswith("kind decides most")
    by_kind = answer(drawn, [0.5 + number / 5000 + (number % 2) / 5 for number in range(20)])
    assert by_kind.startswith("kind decides most")
    few = [{"rate": 0.1 * number, "other": number**2} for number in range(8)]
    assert answer(few, [0.5 + number / 50 for number in range(8)]).startswith("Of 8 points")


def test_equal_sizes_an_only_point_and_points_without_values() -> None:
    many = answer([{"seed": seed} for seed in range(3)], [0.98, 0.98, 0.975])
    assert many.endswith("2 others are within noise of it, and none of them is smaller.")
    assert answer([{}], [0.9]) == "The only point with a result, point 0, has 90.00 % on val."
    some = answer([{"seed": 1}, {"seed": 2}], [None, 0.9], is_over=False)
    assert some == "The only point with a result so far, seed 2, has 90.00 % on val."


def test_before_anything_has_succeeded() -> None:
    assert answer([{"seed": 1}], [None]) == "No trial has succeeded."
    assert answer([{"seed": 1}], [None], is_over=False) == "No trial has succeeded yet."


def test_what_cross_validation_chose() -> None:
    choice = Choice(
        rule="r", point_number=0, parameters={"seed": 1}, mean_val_accuracy=0.9, standard_error=0.01,
        final_run_id="x", final_status="running", final_val_accuracy=None,
    )  # fmt: skip
    values = [{"seed": 1}, {"seed": 2}]
    text = answer(values, [0.5, 0.9], choice=choice)
    assert "with 90.00 % on the folds." in text
    assert text.endswith("Cross-validation chose seed 1: its final run is running.")
    done = choice.model_copy(update={"final_val_accuracy": 0.9537})
    text = answer(values, [0.5, 0.9], choice=done)
    assert text.endswith("Cross-validation chose seed 1: trained on all of train, it has 95.37 % on val.")


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(["a", "b", "c.d", "x.d"]), st.none() | st.booleans() | st.integers(0, 3)),
            st.none() | st.floats(0, 1),
            st.integers(0, 5),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_report_has_an_answer_in_whole_sentences(trials: list[tuple[dict[str, Any], float | None, int]]) -> None:
    values, accuracies, sizes = zip(*trials, strict=True)
    text = answer(values, accuracies, sizes)
    assert text.endswith(".")
    assert "  " not in text
    assert "None" not in text
