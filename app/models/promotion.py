"""The rule by which the champion changes. Called inside the transaction that finishes a run."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.models import repository
from app.tables import Promotion, PromotionReason


def elect(session: Session) -> Promotion | None:
    """Promote the best saved model, unless it is the champion already or another one is pinned.

    Returns:
        The new promotion; None when nothing changed.
    """
    session.flush()
    champion = repository.get_champion(session)
    if champion is not None and champion.reason is PromotionReason.PINNED:
        return None
    best = repository.best_canonical(session)
    if best is None or (champion is not None and champion.run_id == best.run_id):
        return None
    promotion = Promotion(run_id=best.run_id, reason=PromotionReason.AUTOMATIC)
    session.add(promotion)
    return promotion
