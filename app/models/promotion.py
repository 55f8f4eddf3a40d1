"""Changes the champion. Callers do this last in a transaction, which may lock no run afterwards."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound
from app.events import journal
from app.models import repository
from app.tables import EventType, Promotion, PromotionReason, RankedBy, Run, SavedModel


def elect(session: Session, *, newcomers: Collection[str] | None = None) -> Promotion | None:
    """Promote the best saved model, unless it is the champion already or another one is pinned.

    Callers do this in the transaction that finishes or deletes a run, fills in a saved model's shifted accuracy, or
    changes the order. Elections run one at a time, so that the last one sees all models.

    Args:
        session: A writing session.
        newcomers: Runs whose models this transaction has saved, if it has changed nothing else: only they are compared
            with the champion, which has won against all others. None: all models are compared.

    Returns:
        The new promotion; None if nothing changed.
    """
    journal.take_turn(session)
    champion = repository.get_champion(session)
    if champion is not None and champion.reason is PromotionReason.PINNED:
        return None
    ranked_by = RankedBy.VAL if _is_unevaluated(session, champion) else None
    candidates = None if champion is None or newcomers is None or ranked_by else [champion.run_id, *newcomers]
    best = repository.best_canonical(session, among=candidates, ranked_by=ranked_by)
    if best is None or (champion is not None and champion.run_id == best.run_id):
        return None
    return _promote(session, best, PromotionReason.AUTOMATIC, champion)


def _is_unevaluated(session: Session, champion: Promotion | None) -> bool:
    """Whether the champion has no shifted accuracy, since it was saved by an earlier version.

    Models are ranked by val until a worker has evaluated it, which it does first: the others would win for no other
    reason than that they were evaluated before. A champion that cannot be evaluated is ranked like any other.
    """
    if champion is None:
        return False
    model = session.get_one(SavedModel, champion.run_id)
    return model.shifted_accuracy is None and not repository.is_unusable(session, champion.run_id)


def change_order(session: Session, ranked_by: RankedBy) -> None:
    """Rank saved models by something else from now on, and elect by it at once. Repeating is harmless."""
    journal.take_turn(session)
    repository.set_ranked_by(session, ranked_by)
    elect(session)


def pin(session: Session, model: SavedModel) -> None:
    """Make a model the champion until it is unpinned or another one is pinned.

    Raises:
        NotFound: The model's run has been deleted meanwhile.
    """
    if not repository.lock_run(session, model.run_id):
        raise NotFound(f"There is no run {model.run_id}.", slug="run-not-found")
    journal.take_turn(session)
    champion = repository.get_champion(session)
    is_pinned = champion is not None and champion.reason is PromotionReason.PINNED
    if champion is None or champion.run_id != model.run_id or not is_pinned:
        _promote(session, model, PromotionReason.PINNED, champion)


def unpin(session: Session) -> None:
    """Make the best model champion again; do nothing if no model is pinned.

    Raises:
        Conflict: The pinned model is the only one that may be champion.
    """
    journal.take_turn(session)
    champion = repository.get_champion(session)
    if champion is None or champion.reason is PromotionReason.AUTOMATIC:
        return
    best = repository.best_canonical(session)
    if best is None:
        detail = "No run on the canonical split has a saved model that could take over: the pinned one stays."
        raise Conflict(detail, slug="no-saved-model")
    _promote(session, best, PromotionReason.AUTOMATIC, champion)


def _promote(session: Session, model: SavedModel, reason: PromotionReason, before: Promotion | None) -> Promotion:
    run = session.get_one(Run, model.run_id)
    told = {"name": run.name, "val_accuracy": model.val_accuracy, "num_parameters": model.num_parameters}
    promotion = Promotion(run_id=model.run_id, reason=reason, **told)
    session.add(promotion)
    previous = before.run_id if before else None
    data = {"reason": reason, "val_accuracy": model.val_accuracy, "shifted_accuracy": model.shifted_accuracy}
    data["previous_run_id"] = previous
    journal.record(session, run, EventType.PROMOTED, **data)
    return promotion
