"""Queries over datasets and splits."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from app.tables import Dataset, Split


def get_dataset(session: Session, name: str) -> Dataset | None:
    """Return a dataset with its images."""
    return session.get(Dataset, name, options=[undefer(Dataset.pixels), undefer(Dataset.labels)])


def list_splits(session: Session, dataset: str) -> Sequence[Split]:
    return session.scalars(select(Split).where(Split.dataset == dataset).order_by(Split.id)).all()


def get_split(
    session: Session, dataset: str, *, val_size: float, test_size: float, seed: int, fold: int = 0, num_folds: int = 1
) -> Split | None:
    query = select(Split).where(Split.dataset == dataset, Split.val_size == val_size)
    query = query.where(Split.test_size == test_size, Split.seed == seed)
    return session.scalar(query.where(Split.fold == fold, Split.num_folds == num_folds))
