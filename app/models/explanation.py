"""Says in a sentence why a model is champion. Pure: models in, text out."""

from __future__ import annotations

from app.tables import RankedBy, SavedModel
from app.wording import count

_MEASURES = {
    RankedBy.SHIFTED: ("shifted accuracy", "shifted loss", "val accuracy", "val loss", "fewest parameters", "age"),
    RankedBy.VAL: ("val accuracy", "val loss", "fewest parameters", "age"),
}


def explain(
    champion: SavedModel, other: SavedModel | None, *, ranked_by: RankedBy, num_models: int, is_pinned: bool
) -> str:
    """Explain why a model is champion.

    Args:
        champion: The model that is champion.
        other: If the champion is pinned, the model that would be champion otherwise; if not, the next best one.
        ranked_by: By what models are ranked.
        num_models: How many models may be champion.
        is_pinned: Whether it was pinned.
    """
    if is_pinned:
        return _explain_pin(champion, other, ranked_by)
    if ranked_by is RankedBy.SHIFTED and champion.shifted_accuracy is None:
        return (
            f"Best of {count(num_models, 'model')} on the canonical split by val accuracy: "
            f"{champion.val_accuracy:.4f}. Models are ranked by shifted accuracy, and this one has none yet: "
            "a worker without other work evaluates it."
        )
    if other is None:
        return f"The only model on the canonical split; {_score(champion, ranked_by)}."
    deciding = _deciding(champion, other, ranked_by)
    by, *_ = _MEASURES[ranked_by]
    if ranked_by is RankedBy.SHIFTED and other.shifted_accuracy is None:
        return f"{_score(champion, ranked_by).capitalize()}; no other model on the canonical split has one yet."
    sentence = (
        f"Best of {count(num_models, 'model')} on the canonical split by {by}: {_value(champion, ranked_by)}, "
        f"next best {_accuracy(other, ranked_by)} of run {other.run_id}"
    )
    return f"{sentence}." if deciding == by else f"{sentence}; {deciding} decides between equals."


def _explain_pin(champion: SavedModel, best: SavedModel | None, ranked_by: RankedBy) -> str:
    said = f"Pinned by hand; {_score(champion, ranked_by)}"
    if best is None:
        return f"{said}. No other model could be champion."
    if best.run_id == champion.run_id:
        return f"{said}. It would be champion without the pin too."
    return f"{said}. Without the pin it would be run {best.run_id}, with {_accuracy(best, ranked_by)}."


def _deciding(champion: SavedModel, other: SavedModel, ranked_by: RankedBy) -> str:
    """The first measure in which two models differ."""
    pairs = [
        (champion.shifted_accuracy, other.shifted_accuracy),
        (champion.shifted_loss, other.shifted_loss),
        (champion.val_accuracy, other.val_accuracy),
        (champion.val_loss, other.val_loss),
        (champion.num_parameters, other.num_parameters),
    ]
    measures = _MEASURES[ranked_by]
    pairs = pairs[len(pairs) + 1 - len(measures) :]
    return next((name for name, (mine, its) in zip(measures, pairs, strict=False) if mine != its), "age")


def _score(model: SavedModel, ranked_by: RankedBy) -> str:
    return f"its {_MEASURES[ranked_by][0]} is {_value(model, ranked_by)}"


def _value(model: SavedModel, ranked_by: RankedBy) -> str:
    """The accuracy that counts, with its standard error where there is one."""
    error = model.shifted_standard_error if ranked_by is RankedBy.SHIFTED else None
    return _accuracy(model, ranked_by) + ("" if error is None else f" (± {error:.4f})")


def _accuracy(model: SavedModel, ranked_by: RankedBy) -> str:
    accuracy = model.shifted_accuracy if ranked_by is RankedBy.SHIFTED else model.val_accuracy
    return "not known yet" if accuracy is None else f"{accuracy:.4f}"
