"""Queries over saved models and promotions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, undefer

from app.tables import Promotion, Run, RunStatus, SavedModel


def ranking() -> Select[SavedModel]:
    """Saved models, best first: val accuracy, val loss, then fewest parameters, then the oldest run."""
    query = select(SavedModel).join(Run, Run.id == SavedModel.run_id).where(Run.status == RunStatus.SUCCEEDED)
    return query.order_by(
        SavedModel.val_accuracy.desc(), SavedModel.val_loss, SavedModel.num_parameters, SavedModel.run_id
    )


def best_canonical(session: Session) -> SavedModel | None:
    """The best model among those whose val accuracy was measured on the canonical split."""
    return session.scalar(ranking().where(SavedModel.on_canonical_split).limit(1))


def get_saved_model(session: Session, run_id: str) -> SavedModel | None:
    """A saved model with its ONNX graph."""
    return session.get(SavedModel, run_id, options=[undefer(SavedModel.onnx)])


def which_exist(session: Session, run_ids: Collection[str]) -> set[str]:
    """Those of these runs that have a saved model."""
    if not run_ids:
        return set()
    return set(session.scalars(select(SavedModel.run_id).where(SavedModel.run_id.in_(run_ids))))


def get_champion(session: Session) -> Promotion | None:
    """The newest promotion; None when there is none, or its model and all that could follow it have been deleted."""
    newest = session.scalar(select(Promotion).order_by(Promotion.id.desc()).limit(1))
    if newest is None or session.scalar(select(SavedModel.run_id).where(SavedModel.run_id == newest.run_id)) is None:
        return None
    return newest


def list_promotions(session: Session, limit: int) -> Sequence[Promotion]:
    return session.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(limit)).all()
