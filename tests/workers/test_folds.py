"""Folds of the train split: they equal GridSearchCV's, and leaks are detected."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold
from sqlalchemy import select

from app.database import Database
from app.errors import DamagedData
from app.queue.claiming import Claim
from app.run_config import Fold, RunConfig, Split
from app.tables import Split as SplitRow
from tests.conftest import AddRun
from workers.preparation import Preparation, PreparedRun, register_datasets

# Other tests cover the dependence on the database; here SQLite is enough.
on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def prepare(database: Database, add_run: AddRun, split: Split) -> PreparedRun:
    run_id = add_run(RunConfig(split=split))
    return Preparation(database, "cpu").read(Claim(run_id, 1))


@on_sqlite
def test_folds_are_those_of_grid_search_cv_and_leave_val_alone(database: Database, add_run: AddRun) -> None:
    register_datasets(database)
    whole = prepare(database, add_run, Split())
    labels = whole.data.train_labels
    expected = list(StratifiedKFold(5).split(np.zeros(len(labels)), labels))  # GridSearchCV uses it for cv=5
    for number, (train, val) in enumerate(expected):
        split = Split(fold=Fold(number=number, of=5))
        fold = prepare(database, add_run, split)
        assert np.array_equal(fold.split.train, whole.split.train[train])
        assert np.array_equal(fold.split.val, whole.split.train[val])
        assert not set(np.concatenate([fold.split.train, fold.split.val])) & set(whole.split.val)
        sizes = split.sizes(1797)
        assert (sizes.train, sizes.val, sizes.test) == (len(train), len(val), 0), "known without scikit-learn"


@on_sqlite
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_leak_of_val_into_a_fold_is_caught(database: Database, add_run: AddRun, part: str) -> None:
    register_datasets(database)
    split = Split(fold=Fold(number=0, of=5))
    whole, _ = prepare(database, add_run, Split()), prepare(database, add_run, split)
    with database.writing() as session:
        row = session.scalars(select(SplitRow).where(SplitRow.num_folds == 5)).one()
        leaky = np.frombuffer(getattr(row, part), np.int32).copy()
        leaky[:10] = whole.split.val[:10]
        setattr(row, part, leaky.tobytes())
    with pytest.raises(DamagedData, match="leak"):
        prepare(database, add_run, split)


@on_sqlite
def test_a_fold_that_is_trained_on_as_well_is_caught(database: Database, add_run: AddRun) -> None:
    register_datasets(database)
    split = Split(fold=Fold(number=1, of=5))
    fold = prepare(database, add_run, split)
    with database.writing() as session:
        row = session.scalars(select(SplitRow).where(SplitRow.num_folds == 5)).one()
        leaky = fold.split.train.copy()
        leaky[0] = fold.split.val[0]
        row.train = leaky.astype(np.int32).tobytes()
    with pytest.raises(DamagedData, match="leak"):
        prepare(database, add_run, split)
