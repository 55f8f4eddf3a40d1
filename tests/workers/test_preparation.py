"""Preparation: runs that the queue calls compatible are exactly those that fit into one stack."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.run_config import RunConfig, complete
from app.run_costs import stack_key
from workers.preparation import mlp_config
from workers.training.data import load_dataset, split_indices, to_image_tensors
from workers.training.stack import Member, Shape

PIXELS, LABELS = load_dataset("digits")
TENSORS = to_image_tensors(PIXELS, LABELS, "unit")

configurations = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "model": st.fixed_dictionaries({"hidden_sizes": st.lists(st.integers(15, 18), max_size=2)}),
        "split": st.fixed_dictionaries(
            {"val_size": st.sampled_from([0.3, 0.3001, 0.2]), "test_size": st.sampled_from([0.0, 0.1])}
        ),
        "training": st.fixed_dictionaries(
            {
                "batch_size": st.sampled_from([None, 20, 1257, 2000]),
                "optimizer": st.sampled_from(
                    [{"kind": "sgd", "learning_rate": 0.1}, {"kind": "adam", "learning_rate": 0.01}]
                ),
                "augmentation": st.sampled_from([None, None, {}, {"copies": 3}, {"strength": 0.5}]),
                "schedule": st.sampled_from([{"kind": "constant"}, {"kind": "cosine", "warmup_steps": 9}]),
            }
        ),
    }
)


def _config(document: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(complete(RunConfig().model_dump(), document))


def _shape(config: RunConfig) -> Shape:
    split = config.split
    indices = split_indices(LABELS, val_size=split.val_size, test_size=split.test_size, seed=split.seed)
    return Shape.of(Member(mlp_config(config), TENSORS, indices))


@settings(max_examples=60, deadline=None)
@given(one=configurations, other=configurations)
def test_runs_with_the_same_stack_key_are_those_with_the_same_shape(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = _config(one), _config(other)
    assert (stack_key(first) == stack_key(second)) == (_shape(first) == _shape(second))
