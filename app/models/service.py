"""Reading saved models: the leaderboard, the champion, and the ONNX graphs themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy.orm import Session

from app.errors import DamagedData, NotFound
from app.models import repository
from app.paging import decode_cursor, encode_cursor
from app.tables import Promotion, Run, SavedModel

MAX_HISTORY = 100


def leaderboard(
    session: Session, *, limit: int, after: str | None
) -> tuple[Sequence[tuple[SavedModel, Run]], str | None]:
    """A page of saved models with their runs, best first, and the cursor of the next page."""
    offset = 0 if after is None else max(0, decode_cursor(after, int)[0])
    query = repository.ranking().add_columns(Run).offset(offset).limit(limit + 1)
    rows = [(model, run) for model, run in session.execute(query)]
    return rows[:limit], encode_cursor(offset + limit) if len(rows) > limit else None


def get_saved_model(session: Session, run_id: str) -> SavedModel:
    """The saved model of a run, with its ONNX graph, checked.

    Raises:
        NotFound: There is no such run, or it has no saved model (yet).
        DamagedData: The stored graph is not what was saved.
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
    if sha256(model.onnx).hexdigest() != model.sha256:
        raise DamagedData(f"The saved model of run {run_id} does not match its sha256.")
    return model


@dataclass(frozen=True)
class Champion:
    model: SavedModel
    run: Run
    history: Sequence[Promotion]  # newest first; the first one made it champion


def get_champion(session: Session) -> Champion:
    """The champion and the promotions that led to it.

    Raises:
        NotFound: No run on the canonical split has succeeded yet, or none is left.
    """
    if repository.get_champion(session) is None:
        raise NotFound("There is no champion: no run on the canonical split has a saved model.", slug="no-saved-model")
    history = repository.list_promotions(session, MAX_HISTORY)
    model = get_saved_model(session, history[0].run_id)
    return Champion(model, session.get_one(Run, model.run_id), history)
