"""Queries over saved models and promotions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, undefer

from app.tables import Promotion, Run, RunStatus, SavedModel


def _saved_models() -> Select[SavedModel]:
    """Select saved models joined with their runs; without the join, models of deleted runs would be included."""
    return select(SavedModel).join(Run, Run.id == SavedModel.run_id)


def ranking() -> Select[SavedModel]:
    """Select saved models, best first: val accuracy, val loss, then fewest parameters, then the oldest run."""
    query = _saved_models().where(Run.status == RunStatus.SUCCEEDED)
    return query.order_by(
        SavedModel.val_accuracy.desc(), SavedModel.val_loss, SavedModel.num_parameters, SavedModel.run_id
    )


def best_canonical(session: Session, *, excluding: Collection[str] = ()) -> SavedModel | None:
    """Return the best model whose val accuracy was measured on the canonical split, except those in `excluding`."""
    query = ranking().where(SavedModel.on_canonical_split, SavedModel.run_id.not_in(excluding))
    return session.scalar(query.limit(1))


def get_saved_model(session: Session, run_id: str) -> SavedModel | None:
    """Return a run's saved model with its ONNX graph."""
    query = _saved_models().where(SavedModel.run_id == run_id)
    return session.scalar(query.options(undefer(SavedModel.onnx)))


def lock_run(session: Session, run_id: str) -> bool:
    """Keep a run from being deleted until this transaction ends; return False if it is deleted already."""
    return session.scalar(select(Run.id).where(Run.id == run_id).with_for_update()) is not None


def which_exist(session: Session, run_ids: Collection[str]) -> set[str]:
    """Return the given run ids that have a saved model."""
    if not run_ids:
        return set()
    query = select(SavedModel.run_id).join(Run, Run.id == SavedModel.run_id)
    return set(session.scalars(query.where(SavedModel.run_id.in_(run_ids))))


def get_champion(session: Session) -> Promotion | None:
    """Return the newest promotion; None if there is none, or if its model and all possible successors are deleted."""
    is_newest = Promotion.id == select(func.max(Promotion.id)).scalar_subquery()
    query = select(Promotion).join(SavedModel, SavedModel.run_id == Promotion.run_id)
    return session.scalar(query.join(Run, Run.id == SavedModel.run_id).where(is_newest))


def get_predecessor(session: Session, run_id: str) -> SavedModel | None:
    """Return the model that was most recently champion before this one, among those that still exist."""
    query = _saved_models().join(Promotion, Promotion.run_id == SavedModel.run_id)
    return session.scalar(query.where(SavedModel.run_id != run_id).order_by(Promotion.id.desc()).limit(1))


def list_promotions(session: Session, limit: int) -> Sequence[Promotion]:
    return session.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(limit)).all()


def get_names(session: Session, run_ids: Collection[str]) -> dict[str, str]:
    """Return the names of those of the given runs that exist, by id."""
    return dict(iter(session.execute(select(Run.id, Run.name).where(Run.id.in_(run_ids)))))
