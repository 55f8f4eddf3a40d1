"""Saved models: the leaderboard, the champion and its choice by hand, and the ONNX graphs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app import blobs
from app.errors import Conflict, DamagedData, NotFound
from app.models import promotion, repository
from app.models.explanation import explain
from app.paging import cut, decode_cursor, encode_cursor
from app.tables import Promotion, PromotionReason, RankedBy, Run, SavedModel

MAX_HISTORY = 100


def leaderboard(
    session: Session, *, limit: int, after: str | None
) -> tuple[Sequence[tuple[SavedModel, Run]], str | None]:
    """Return a page of saved models with their runs, best first, and the cursor of the next page."""
    offset = 0 if after is None else max(0, decode_cursor(after, int)[0])
    query = repository.ranking(session).add_columns(Run).offset(offset).limit(limit + 1)
    rows = [(model, run) for model, run in session.execute(query)]
    return cut(rows, limit, lambda _: encode_cursor(offset + limit))


def get_saved_model(session: Session, run_id: str) -> SavedModel:
    """Return a run's saved model with its ONNX graph, verified against its sha256.

    Raises:
        NotFound: There is no such run, or it has no saved model (yet).
        DamagedData: The stored graph does not match its sha256.
    """
    model = repository.get_saved_model(session, run_id)
    if model is None:
        run = session.get(Run, run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id}.", slug="run-not-found")
        raise NotFound(
            f"Run {run_id} has no saved model: it is {run.status.value}, and a model is saved when a run succeeds.",
            slug="no-saved-model",
        )
    blobs.checked(model.onnx, model.sha256, f"The saved model of run {run_id}")
    return model


@dataclass(frozen=True)
class Champion:
    model: SavedModel
    run: Run
    history: Sequence[Promotion]  # newest first; the first one made `model` the champion
    automatic: tuple[SavedModel, Run] | None  # while a model is pinned: the champion otherwise
    why: str  # a sentence
    names: Mapping[str, str]  # of the runs in the history that still exist, by id


def get_champion(session: Session) -> Champion:
    """Return the champion and the promotions that led to it.

    Raises:
        NotFound: No run on the canonical split has succeeded yet, or none is left.
    """
    _require_champion(session)
    return _describe_champion(session)


def find_champion(session: Session) -> Champion | None:
    """Return the champion if there is one."""
    return None if repository.get_champion(session) is None else _describe_champion(session)


def _describe_champion(session: Session) -> Champion:
    history = repository.list_promotions(session, MAX_HISTORY)
    model = session.get_one(SavedModel, history[0].run_id)
    is_pinned = history[0].reason is PromotionReason.PINNED
    best = repository.best_canonical(session) if is_pinned else None
    automatic = None if best is None else (best, session.get_one(Run, best.run_id))
    why = explain(
        model,
        best if is_pinned else repository.best_canonical(session, excluding=[model.run_id]),
        ranked_by=repository.get_ranked_by(session),
        num_models=repository.count_canonical(session),
        is_pinned=is_pinned,
    )
    names = repository.get_names(session, {promotion.run_id for promotion in history})
    return Champion(model, session.get_one(Run, model.run_id), history, automatic, why, names)


def get_ranked_by(session: Session) -> RankedBy:
    return repository.get_ranked_by(session)


def change_order(session: Session, ranked_by: RankedBy) -> None:
    """Rank saved models by something else from now on; the champion changes in the same transaction if it has to."""
    promotion.change_order(session, ranked_by)


def check_pinnable(session: Session, run_id: str) -> SavedModel:
    """Return a run's saved model. It may be large, so it is read and verified before the write lock is taken.

    Raises:
        NotFound: There is no such run, or it has no saved model (yet).
        Conflict: The stored graph does not match its sha256.
    """
    try:
        return get_saved_model(session, run_id)
    except DamagedData as error:
        raise Conflict(error.detail, slug="damaged-data") from error


def pin(session: Session, model: SavedModel) -> None:
    """Make a saved model the champion, however good other models are.

    Raises:
        NotFound: Its run has been deleted meanwhile.
    """
    promotion.pin(session, model)


def unpin(session: Session) -> None:
    """Make the best model champion again. Repeating the call is harmless.

    Raises:
        NotFound: There is no champion.
        Conflict: No other model may be champion.
    """
    _require_champion(session)
    promotion.unpin(session)


def roll_back(session: Session) -> None:
    """Pin the model that was champion before this one; a second call restores this one.

    Raises:
        NotFound: There is no champion.
        Conflict: No other model was champion before, or none of them is left.
    """
    champion = _require_champion(session)
    before = repository.get_predecessor(session, champion.run_id)
    if before is None:
        raise Conflict("No other model was champion before this one, or none is left.", slug="no-predecessor")
    promotion.pin(session, before)


def _require_champion(session: Session) -> Promotion:
    champion = repository.get_champion(session)
    if champion is None:
        raise NotFound("There is no champion: no run on the canonical split has a saved model.", slug="no-saved-model")
    return champion
