"""Tells of the end of sweeps: an event in the transaction that ends a sweep's last unfinished run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import before_commit
from app.events import journal
from app.tables import EventType, Run, RunStatus, Sweep

SweepEnd = Literal["succeeded", "failed", "cancelled"]

_NOTED = "sweep_ends"


def note(session: Session, sweep_id: str) -> None:
    """Note that a run of the sweep has ended. At the end of the transaction, an event follows if it was the last one.

    The event is decided under the lock on the event counter: of two workers that end the last runs at once, the second
    one sees both ends, and no lock on the sweep is needed.
    """
    if _NOTED not in session.info:
        session.info[_NOTED] = {}
        before_commit(session, _record_ends)
    session.info[_NOTED][sweep_id] = None  # a dictionary, for its order


def status_at_end(
    counts: Mapping[RunStatus, int], *, is_cancelled: bool, has_folds: bool, has_choice: bool
) -> SweepEnd:
    """Return the final state of a sweep, all of whose runs have ended.

    Args:
        counts: The number of its runs in each state.
        is_cancelled: Whether a client has cancelled the sweep.
        has_folds: Whether it chooses a point by cross-validation.
        has_choice: Whether it has chosen one.
    """
    succeeded = counts.get(RunStatus.SUCCEEDED, 0)
    if is_cancelled or (not succeeded and counts.get(RunStatus.CANCELLED, 0)):
        return "cancelled"
    is_good = has_choice if has_folds else succeeded
    return "succeeded" if is_good else "failed"


def _record_ends(session: Session) -> None:
    sweep_ids = list(session.info.pop(_NOTED))
    journal.take_turn(session)
    counts: dict[str | None, Counter[RunStatus]] = defaultdict(Counter)
    counting = select(Run.sweep_id, Run.status, func.count()).where(Run.sweep_id.in_(sweep_ids))
    for sweep_id, status, number in session.execute(counting.group_by(Run.sweep_id, Run.status)):
        counts[sweep_id][status] = number
    over = [each for each in sweep_ids if all(status.is_finished() for status in counts[each])]
    query = select(Sweep.id, Sweep.is_cancelled, Sweep.num_folds, Sweep.choice).where(Sweep.id.in_(over))
    for sweep_id, is_cancelled, num_folds, choice in session.execute(query.order_by(Sweep.id)):
        of_sweep = counts[sweep_id]
        has = {"has_folds": num_folds is not None, "has_choice": choice is not None}
        ended_as = status_at_end(of_sweep, is_cancelled=is_cancelled, **has)
        ended = {each.value: of_sweep[each] for each in RunStatus if each.is_finished()}
        data = {"status": ended_as, "trials": of_sweep.total(), **ended}
        journal.record_of_sweep(session, EventType(f"sweep_{ended_as}"), sweep_id, **data)
