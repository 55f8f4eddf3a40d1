"""Members of an ensemble: which runs may be members, and what the ensemble's run takes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.errors import Conflict, FieldError, NotFound
from app.models import repository as models
from app.run_config import Ensemble, RunConfig, Split
from app.runs import repository
from app.tables import Run, RunStatus
from app.validation import invalid_input


@dataclass(frozen=True)
class Members:
    """What an ensemble's run takes from its members."""

    dataset: str
    split: Split
    num_parameters: int  # of all members together
    size_bytes: int  # of all their saved models together


def find_members(session: Session, ensemble: Ensemble) -> Members:
    """Read an ensemble's members and check that they fit together.

    The saved models themselves are read and verified by the worker.

    Raises:
        NotFound: There is no such run. Each error points at a member.
        Conflict: A member is no succeeded network with a saved model, or was trained on another split than the first
            one that is, or on a fold. Each error points at a member.
    """
    runs = repository.get_all(session, ensemble.members)
    places = {run_id: f"#/model/members/{number}" for number, run_id in enumerate(ensemble.members)}
    unknown = [FieldError(places[run_id], f"There is no run {run_id}.") for run_id in places if run_id not in runs]
    if unknown:
        raise NotFound(_first(unknown), slug="run-not-found", errors=unknown)
    saved = {model.run_id: model for model in models.list_saved_models(session, ensemble.members)}
    reasons = {run_id: _why_unfit(runs[run_id], has_model=run_id in saved) for run_id in places}
    fit = [run_id for run_id, reason in reasons.items() if reason is None]
    data = {run_id: _data_of(runs[run_id]) for run_id in fit}
    for run_id in fit:
        if data[run_id] != data[fit[0]]:
            reasons[run_id] = f"it was trained on another split than run {fit[0]}"
    unfit = [
        FieldError(places[run_id], f"Run {run_id} cannot be a member of an ensemble: {reason}.")
        for run_id, reason in reasons.items()
        if reason is not None
    ]
    if unfit:
        raise Conflict(_first(unfit), slug="unfit-member", errors=unfit)
    dataset, split = data[fit[0]]
    num_parameters, size_bytes = (
        sum(getattr(saved[run_id], name) for run_id in places) for name in ("num_parameters", "size_bytes")
    )
    return Members(dataset, split, num_parameters, size_bytes)


def check_data(config: RunConfig, given: Mapping[str, Any], members: Members) -> None:
    """Check that what the client sent of dataset and split is what the members were trained on.

    Args:
        config: The validated configuration.
        given: The client's document; fields that it leaves out are taken from the members.
        members: The ensemble's members.

    Raises:
        InvalidInput: A field has another value; the error points at it.
    """
    sent = [("dataset", config.dataset, members.dataset)] if "dataset" in given else []
    for name in given.get("split", ()):
        sent.append((f"split/{name}", getattr(config.split, name), getattr(members.split, name)))
    wrong = [
        FieldError(f"#/{place}", f"The members were trained with {theirs!r}: leave it out, or send the same")
        for place, mine, theirs in sent
        if mine != theirs
    ]
    if wrong:
        raise invalid_input(wrong)


def _why_unfit(run: Run, *, has_model: bool) -> str | None:
    """Return why a run cannot be a member of any ensemble; None: it can."""
    if run.model_kind != "mlp":
        return f"it is of kind {run.model_kind}, and members are networks (mlp)"
    if run.status is not RunStatus.SUCCEEDED:
        return f"it is {run.status.value}, and members have succeeded"
    if run.fold is not None:
        return "it was trained on a fold, so its val accuracy cannot be compared"
    if not has_model:
        return "it has no saved model"
    return None


def _data_of(run: Run) -> tuple[str, Split]:
    config = RunConfig.model_validate(run.config)
    return config.dataset, config.split


def _first(errors: Sequence[FieldError]) -> str:
    """Describe the first error, and count the others."""
    return errors[0].detail + (f" ({len(errors) - 1} more)" if len(errors) > 1 else "")
