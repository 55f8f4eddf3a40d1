"""Queries over saved models and promotions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, undefer

from app.tables import Promotion, RankedBy, Ranking, Run, RunStatus, SavedModel


def _saved_models() -> Select[SavedModel]:
    """Select saved models joined with their runs; without the join, models of deleted runs would be included."""
    return select(SavedModel).join(Run, Run.id == SavedModel.run_id)


def get_ranked_by(session: Session) -> RankedBy:
    """Return by what saved models are ranked."""
    return session.scalar(select(Ranking.ranked_by)) or RankedBy.SHIFTED


def set_ranked_by(session: Session, ranked_by: RankedBy) -> None:
    session.execute(update(Ranking).values(ranked_by=ranked_by))


def ranking(session: Session, ranked_by: RankedBy | None = None) -> Select[SavedModel]:
    """Select saved models, best first, by what `get_ranked_by` says; the leaderboard and all elections use this order.

    By `val`: val accuracy, val loss, then fewest parameters, then the oldest run. By `shifted`: shifted accuracy and
    shifted loss come before that; models without them follow the others.
    """
    of_val = (SavedModel.val_accuracy.desc(), SavedModel.val_loss, SavedModel.num_parameters, SavedModel.run_id)
    query = _saved_models().where(Run.status == RunStatus.SUCCEEDED)
    if (ranked_by or get_ranked_by(session)) is RankedBy.VAL:
        return query.order_by(*of_val)
    is_missing = SavedModel.shifted_accuracy.is_(None)  # SQLite would put nulls last in this direction, Postgres first
    return query.order_by(is_missing, SavedModel.shifted_accuracy.desc(), SavedModel.shifted_loss, *of_val)


def best_canonical(
    session: Session,
    *,
    among: Collection[str] | None = None,
    excluding: Collection[str] = (),
    ranked_by: RankedBy | None = None,
) -> SavedModel | None:
    """Return the best model whose val accuracy was measured on the canonical split.

    Args:
        session: Reads the models.
        among: Run ids of the models to compare; None: all.
        excluding: Run ids of models to leave out.
        ranked_by: See `ranking`.
    """
    query = ranking(session, ranked_by).where(SavedModel.on_canonical_split, SavedModel.run_id.not_in(excluding))
    if among is not None:
        query = query.where(SavedModel.run_id.in_(among))
    return session.scalar(query.limit(1))


def count_canonical(session: Session) -> int:
    """Count the models that may be champion."""
    may_be = Run.status == RunStatus.SUCCEEDED, SavedModel.on_canonical_split
    query = select(func.count()).select_from(SavedModel).join(Run, Run.id == SavedModel.run_id)
    return session.scalar(query.where(*may_be)) or 0


def get_saved_model(session: Session, run_id: str) -> SavedModel | None:
    """Return a run's saved model with its ONNX graph."""
    query = _saved_models().where(SavedModel.run_id == run_id)
    return session.scalar(query.options(undefer(SavedModel.onnx)))


def list_saved_models(session: Session, run_ids: Collection[str]) -> Sequence[SavedModel]:
    """Return the saved models of the given runs, without their ONNX graphs, in no particular order."""
    return session.scalars(_saved_models().where(SavedModel.run_id.in_(run_ids))).all()


def lock_run(session: Session, run_id: str) -> bool:
    """Keep a run from being deleted until this transaction ends; return False if it is deleted already."""
    return session.scalar(select(Run.id).where(Run.id == run_id).with_for_update()) is not None


def which_exist(session: Session, run_ids: Collection[str]) -> set[str]:
    """Return the given run ids that have a saved model."""
    if not run_ids:
        return set()
    query = select(SavedModel.run_id).join(Run, Run.id == SavedModel.run_id)
    return set(session.scalars(query.where(SavedModel.run_id.in_(run_ids))))


def find_unevaluated(session: Session) -> str | None:
    """Return the run whose saved model is to be evaluated on shifted val next: the champion's, then the best by val.

    Models of folds are never evaluated, since they are compared by their folds alone; nor are unusable ones again.
    """
    is_missing = SavedModel.shifted_accuracy.is_(None), SavedModel.shifted_right.is_(None)
    query = select(SavedModel.run_id).join(Run, Run.id == SavedModel.run_id)
    query = query.where(Run.status == RunStatus.SUCCEEDED, Run.fold.is_(None), *is_missing)
    champion = get_champion(session)
    if champion is not None and (found := session.scalar(query.where(SavedModel.run_id == champion.run_id))):
        return found
    best_first = SavedModel.on_canonical_split.desc(), SavedModel.val_accuracy.desc(), SavedModel.run_id
    return session.scalar(query.order_by(*best_first).limit(1))


def mark_unusable(session: Session, run_id: str) -> None:
    """Note that a saved model cannot be evaluated: no bit of shifted val is stored, and no value."""
    session.execute(update(SavedModel).where(SavedModel.run_id == run_id).values(shifted_right=b""))


def is_unusable(session: Session, run_id: str) -> bool:
    """Whether a saved model could not be evaluated."""
    query = select(SavedModel.run_id).where(SavedModel.run_id == run_id, SavedModel.shifted_right == b"")
    return session.scalar(query) is not None


def which_are_evaluated(session: Session, run_ids: Collection[str]) -> set[str]:
    """Return the given run ids whose saved models have been evaluated on shifted val, which fixes their thresholds."""
    if not run_ids:
        return set()
    query = select(SavedModel.run_id).where(SavedModel.run_id.in_(run_ids))
    return set(session.scalars(query.where(SavedModel.shifted_accuracy.is_not(None))))


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
