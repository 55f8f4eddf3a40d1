"""The rule by which the champion changes. Called inside the transaction that finishes or deletes a run."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.events import journal
from app.models import repository
from app.tables import EventType, Promotion, PromotionReason, Run


def elect(session: Session) -> Promotion | None:
    """Promote the best saved model, unless it is the champion already or another one is pinned.

    Elections take turns, so that the last one has seen all models. To be called last in a transaction: no run may be
    locked after it.

    Returns:
        The new promotion; None when nothing changed.
    """
    journal.take_turn(session)
    champion = repository.get_champion(session)
    if champion is not None and champion.reason is PromotionReason.PINNED:
        return None
    best = repository.best_canonical(session)
    if best is None or (champion is not None and champion.run_id == best.run_id):
        return None
    promotion = Promotion(run_id=best.run_id, reason=PromotionReason.AUTOMATIC)
    session.add(promotion)
    run = session.get_one(Run, best.run_id)
    before = champion.run_id if champion else None
    data = {"reason": promotion.reason, "val_accuracy": best.val_accuracy, "previous_run_id": before}
    journal.record(session, run, EventType.PROMOTED, **data)
    return promotion
