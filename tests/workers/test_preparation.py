"""Preparation: which runs fit into one stack, and how the runs of a stack are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.database import Database
from app.errors import DamagedData, NotFound
from app.queue.claiming import Claim
from app.run_config import RunConfig, complete
from app.run_costs import stack_key
from app.tables import Checkpoint, Run
from tests.conftest import AddRun, counting_statements
from workers.preparation import Preparation, PreparedRun, Unreadable, mlp_config, register_datasets
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


# Other tests cover the dependence on the database; here SQLite is enough.
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


@on_sqlite
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_prepared(database: Database, add_run: AddRun) -> None:
    register_datasets(database)
    claims = [Claim(add_run(RunConfig(seed=seed)), 1) for seed in range(4)]
    with database.writing() as session:
        session.get_one(Run, claims[0].run_id).config = {"model": {"kind": "unknown"}}
        session.add(Checkpoint(run_id=claims[2].run_id, role="last", epoch=1, blob=b"?", sha256="", size_bytes=1))
    gone = Claim("gone", 1)
    found = list(Preparation(database, "cpu").read_all([*claims, gone]))
    assert [each.claim for each in found] == [*claims, gone]
    errors = {each.claim: type(each.error) for each in found if isinstance(each, Unreadable)}
    assert errors == {claims[0]: ValidationError, claims[2]: DamagedData, gone: NotFound}
    assert [each.config.seed for each in found if isinstance(each, PreparedRun)] == [1, 3]


@on_sqlite
def test_runs_are_read_by_as_many_queries_as_one_run(database: Database, add_run: AddRun) -> None:
    register_datasets(database)
    claims = [Claim(add_run(RunConfig(seed=seed)), 1) for seed in range(8)]
    counts = []
    for size in (1, 8):
        with counting_statements(database, "SELECT") as statements:
            assert len(list(Preparation(database, "cpu").read_all(claims[:size]))) == size
        counts.append(len(statements))
    assert counts[0] == counts[1] >= 2  # runs, checkpoints, and the data
