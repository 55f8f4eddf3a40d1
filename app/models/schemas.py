"""Request and response models for saved models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.tables import Promotion, PromotionReason, RankedBy, Run, SavedModel
from app.validation import Id


class ModelView(BaseModel):
    """What a finished run can be served from."""

    run_id: str = Field(examples=["01a20e0d-2749-744b-97b3-2c4e726a71a1"])
    name: str = Field(description="The run's.")
    model_kind: str = Field(examples=["mlp"])
    config: dict[str, Any] = Field(description="The run's full configuration.")
    epoch: int = Field(description="Whose weights these are.")
    train_accuracy: float = Field(description="Of these weights, dropout off.")
    val_accuracy: float = Field(examples=[0.9815])
    val_loss: float
    shifted_accuracy: float | None = Field(
        description="On shifted val, 10 warped copies of each val image: it says more about other hands than val does. "
        "Null: a worker has not evaluated it yet, or the run is a fold.",
        examples=[0.9634],
    )
    shifted_loss: float | None
    shifted_standard_error: float | None = Field(
        description="Of the shifted accuracy, over val images: copies of one image are no independent samples."
    )
    test_accuracy: float | None
    num_parameters: int = Field(
        description="Weights and biases; of a forest, its nodes; of an ensemble, its members' together.",
        examples=[2410],
    )
    size_bytes: int
    sha256: str
    training_seconds: float
    sure_confidence: float | None = Field(
        description="The smallest confidence of the verdict `sure`: with it, 99.7 % of those on shifted val are right. "
        "Null: nothing is sure."
    )
    max_energy: float | None = Field(
        description="An image with more energy (-logsumexp of the logits) is `not_a_digit`; null: energy does not tell."
    )
    max_distance: float | None = Field(
        description="So is one whose nearest train image is further away (Euclidean, pixels 0–16); null: as above."
    )
    created_at: datetime

    @classmethod
    def of(cls, model: SavedModel, run: Run) -> ModelView:
        of_run = ("name", "model_kind", "config", "test_accuracy", "training_seconds")
        return cls(**{name: getattr(run if name in of_run else model, name) for name in cls.model_fields})


class PromotionView(BaseModel):
    """How a model became champion."""

    run_id: str
    name: str | None = Field(description="The run's; for a deleted run, as it was called at that time.")
    val_accuracy: float | None = Field(description="Of the model; null for a run that was deleted long ago.")
    num_parameters: int | None
    is_deleted: bool = Field(description="Whether the run has been deleted since.")
    reason: PromotionReason
    created_at: datetime

    @classmethod
    def of(cls, promotion: Promotion, names: Mapping[str, str]) -> PromotionView:
        """Make the view of a promotion, with the names of the runs that still exist."""
        stored = {name: getattr(promotion, name) for name in cls.model_fields if name not in ("name", "is_deleted")}
        is_deleted = promotion.run_id not in names
        return cls(**stored, name=promotion.name if is_deleted else names[promotion.run_id], is_deleted=is_deleted)


class ChampionView(BaseModel):
    """The saved model that `/predict` uses, and how it came to that."""

    model: ModelView
    why: str = Field(
        description="In a sentence.",
        examples=["Best of 12 models on the canonical split by shifted accuracy: 0.9873 (± 0.0021), next best 0.9860."],
    )
    reason: PromotionReason = Field(description="`automatic`: the best one; `pinned`: somebody chose it.")
    promoted_at: datetime
    automatic: ModelView | None = Field(description="While one is pinned: the model that would be champion otherwise.")
    history: list[PromotionView] = Field(description="Newest first, at most 100.")


class Pin(BaseModel):
    """The run whose saved model shall be champion."""

    model_config = ConfigDict(extra="forbid")

    run_id: Id = Field(examples=["01a20e0d-2749-744b-97b3-2c4e726a71a1"])


class RankingChoice(BaseModel):
    """By what saved models shall be ranked: the leaderboard, and the choice of the champion."""

    model_config = ConfigDict(extra="forbid")

    by: RankedBy = Field(
        description="`shifted`: shifted accuracy, shifted loss, val accuracy, val loss, fewest parameters, oldest; "
        "`val`: the same without the first two. Models without shifted accuracy come last.",
        examples=["shifted"],
    )


class RankingView(RankingChoice):
    """By what saved models are ranked, and which one is champion."""

    model_config = ConfigDict(extra="ignore")

    champion_run_id: str | None = Field(description="Null: no run on the canonical split has succeeded yet.")
    why: str | None = Field(description="Why it is champion, in a sentence.")
