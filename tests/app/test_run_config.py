"""Run configurations: defaults for omitted fields, which fields go together, and the notebook's settings."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.presets.runs import PRESETS
from app.run_config import (
    MAX_AUTO_METRICS,
    SUBMITTED,
    AffineElastic,
    Constant,
    Cosine,
    Mlp,
    RandomForest,
    RunConfig,
    Sgd,
    complete,
)
from app.run_costs import stack_key
from app.settings import Settings
from app.validation import invalid_document

BASE: dict[str, Any] = RunConfig().model_dump(mode="json")


def _complete(overrides: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(complete(BASE, overrides))


def test_objects_merge_field_by_field() -> None:
    config = _complete({"training": {"optimizer": {"learning_rate": 0.5}}, "model": {"dropout": 0.5}})
    assert config.training is not None
    assert isinstance(config.training.optimizer, Sgd)
    assert (config.training.optimizer.learning_rate, config.training.optimizer.momentum) == (0.5, 0.9)
    assert isinstance(config.model, Mlp)
    assert (config.model.dropout, config.model.hidden_sizes) == (0.5, [128, 64])


def test_an_object_of_another_kind_replaces_the_whole() -> None:
    merged = complete(BASE, {"training": {"optimizer": {"kind": "adam"}}})
    assert merged["training"]["optimizer"] == {"kind": "adam"}
    assert merged["training"]["epochs"] == 100


def test_a_forest_leaves_scaling_and_training_out() -> None:
    config = _complete({"model": {"kind": "random_forest"}})
    assert config.model == RandomForest(kind="random_forest", n_estimators=10, max_depth=10)
    assert (config.scaling, config.training) == (None, None)


def test_null_is_a_value() -> None:
    config = _complete({"training": {"batch_size": None}})
    assert config.training is not None
    assert config.training.batch_size is None
    with pytest.raises(ValidationError):
        _complete({"training": None})


def test_completing_changes_neither_part() -> None:
    base, overrides = deepcopy(BASE), {"training": {"optimizer": {"learning_rate": 0.1}, "epochs": 3}}
    complete(BASE, overrides)
    assert base == BASE
    assert overrides == {"training": {"optimizer": {"learning_rate": 0.1}, "epochs": 3}}


# The notebook's table (mission.md, rows 6, 8, 9 and 12).
NETWORKS = {
    "fullbatch-sigmoid": ([52, 52], "sigmoid", 0.0, 0.001, None, 10_000),
    "fullbatch-sigmoid-fast": ([52, 52], "sigmoid", 0.0, 0.3, None, 5_000),
    "fullbatch-tanh": ([52, 52], "tanh", 0.0, 0.05, None, 5_000),
    "minibatch-sigmoid": ([12, 12], "sigmoid", 0.0, 0.3, 20, 800),
    "dropout-tanh": ([24, 24], "tanh", 0.25, 0.01, 20, 800),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_preset_has_the_notebook_s_settings(name: str) -> None:
    config = PRESETS[name].config
    assert isinstance(config.model, Mlp)
    assert config.training is not None
    optimizer = config.training.optimizer
    assert isinstance(optimizer, Sgd)
    assert (optimizer.momentum, optimizer.weight_decay, config.scaling) == (0.9, 0.0, "byte")
    model = config.model
    assert NETWORKS[name] == (
        model.hidden_sizes,
        model.activation,
        model.dropout,
        optimizer.learning_rate,
        config.training.batch_size,
        config.training.epochs,
    )


def test_the_handwriting_preset_trains_on_warped_copies() -> None:
    preset = PRESETS["handwriting"]
    config = preset.config
    assert preset.notebook == "", "it does not come from the notebook"
    assert config.model == Mlp(hidden_sizes=[256], activation="relu", dropout=0.2)
    assert config.training is not None
    assert config.training.model_dump() == {
        "optimizer": {"kind": "sgd", "learning_rate": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-5},
        "schedule": {"kind": "cosine", "warmup_steps": 100},
        "augmentation": {"kind": "affine_elastic", "copies": 256, "strength": 1.0},
        "batch_size": 64,
        "epochs": 300,
        "evaluate_every": "auto",
        "keep": "last",
        "early_stopping": None,
        "snapshots": 0,
    }
    assert (config.scaling, config.evaluate_every, config.split.is_canonical) == ("unit", 2, True)


def test_the_forest_preset_has_the_notebook_s_settings() -> None:
    assert PRESETS["forest-baseline"].config.model == RandomForest(kind="random_forest", n_estimators=10, max_depth=10)


@given(epochs=st.integers(1, 100_000))
def test_auto_keeps_at_most_200_points(epochs: int) -> None:
    config = _complete({"model": {"hidden_sizes": []}, "training": {"epochs": epochs, "batch_size": None}})
    every = config.evaluate_every
    points = {1, epochs} | set(range(every, epochs + 1, every))
    assert len(points) <= MAX_AUTO_METRICS == 200


def test_the_default_split_is_the_notebook_s_size() -> None:
    config = RunConfig()
    assert config.num_train_samples == 1257
    assert config.split.is_canonical


def test_the_longest_step_shows_progress_before_a_slow_core_counts_as_stuck() -> None:
    """Progress is counted by steps: the largest one must end within `stall_seconds` at 10^9 multiply-adds a second.

    The compiled engine does 40 times as many; a CUDA graph replays an epoch of at most 256 steps, which is as much
    work as one full batch.
    """
    largest = _complete(
        {
            "model": {"hidden_sizes": [1024] * 8},
            "split": {"val_size": 0.05, "test_size": 0.0},
            "training": {"batch_size": None, "epochs": 1},
        }
    )
    assert largest.num_parameters is not None
    # Forward pass, gradients of the weights, gradients of the layer's inputs: one multiply-add each.
    multiply_adds = 3 * largest.num_parameters * largest.num_train_samples
    assert multiply_adds < Settings().stall_seconds * 10**9
    with pytest.raises(ValidationError):
        _complete({"model": {"hidden_sizes": [1024] * 9}})
    with pytest.raises(ValidationError):
        _complete({"model": {"hidden_sizes": [1025]}})


def test_new_fields_are_what_stored_configurations_without_them_mean() -> None:
    older = deepcopy(BASE)
    del older["training"]["schedule"], older["training"]["augmentation"], older["training"]["optimizer"]["nesterov"]
    config = RunConfig.model_validate(older)
    assert config == RunConfig()
    assert config.training is not None
    assert isinstance(config.training.optimizer, Sgd)
    assert (config.training.schedule, config.training.augmentation) == (Constant(), None)
    assert config.training.optimizer.nesterov is False
    assert stack_key(config) == "64-128-64-16 sgd 64 1257+540+0 auto"


def test_augmentation_completes_null_and_merges() -> None:
    config = _complete({"training": {"augmentation": {"copies": 16}}})
    assert config.augmentation == AffineElastic(copies=16, strength=1.0)
    stronger = RunConfig.model_validate(
        complete(config.model_dump(), {"training": {"augmentation": {"strength": 1.25}}})
    )
    assert stronger.augmentation == AffineElastic(copies=16, strength=1.25)
    none = RunConfig.model_validate(complete(stronger.model_dump(), {"training": {"augmentation": None}}))
    assert none == RunConfig()


def test_rates_and_nesterov_momentum_leave_the_stack_alone() -> None:
    scheduled = _complete(
        {"training": {"schedule": {"kind": "cosine", "warmup_steps": 9}, "optimizer": {"nesterov": True}}}
    )
    assert stack_key(scheduled) == stack_key(RunConfig())
    assert scheduled.training is not None
    assert scheduled.training.schedule == Cosine(kind="cosine", warmup_steps=9)


@pytest.mark.parametrize(
    ("training", "pointer", "message"),
    [
        ({"augmentation": {"copies": 0}}, "/augmentation/copies", "greater than or equal to 1"),
        ({"augmentation": {"copies": 257}}, "/augmentation/copies", "less than or equal to 256"),
        ({"augmentation": {"strength": 0.3}}, "/augmentation/strength", "multiple of 0.25"),
        ({"augmentation": {"strength": 0}}, "/augmentation/strength", "greater than or equal to 0.25"),
        ({"augmentation": {"kind": "mixup"}}, "/augmentation/kind", "affine_elastic"),
        ({"schedule": {"kind": "step"}}, "/schedule", '"constant" or "cosine"'),
        ({"schedule": {"warmup_steps": 3}}, "/schedule/warmup_steps", "no such field"),
        ({"schedule": {"kind": "cosine", "warmup_steps": -1}}, "/schedule/warmup_steps", "greater than or equal to 0"),
        (
            {"epochs": 5, "schedule": {"kind": "cosine", "warmup_steps": 100}},  # 1,257 images are 20 steps of 64
            "/schedule/warmup_steps",
            "warmup_steps should be less than the 100 steps of the run",
        ),
        ({"optimizer": {"momentum": 0, "nesterov": True}}, "/optimizer/nesterov", "nesterov needs a momentum above 0"),
        ({"optimizer": {"kind": "adam", "nesterov": True}}, "/optimizer/nesterov", "no such field"),
    ],
)
def test_what_does_not_go_together_is_refused_where_it_stands(
    training: dict[str, Any], pointer: str, message: str
) -> None:
    document = complete(BASE, {"training": training})
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(document, context=SUBMITTED)
    error = invalid_document(caught.value, document)
    assert [place.pointer for place in error.errors] == [f"#/training{pointer}"]
    assert message in error.errors[0].detail


def test_a_warm_up_of_all_steps_but_one_is_accepted() -> None:
    training = {"epochs": 5, "schedule": {"kind": "cosine", "warmup_steps": 99}}
    assert _complete({"training": training}).num_steps == 100
