"""Request and response models for sweeps."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, WithJsonSchema, model_validator

from app.run_config import MAX_SEED, StrictModel
from app.runs.schemas import EXAMPLE_CONFIG, Name, Notes, Priority, Tags

ParameterPath = Annotated[str, Field(max_length=200, examples=["training.optimizer.learning_rate"])]
EXAMPLE_PARAMETERS = {"model.hidden_sizes": [[12, 12], [16, 16]], "training.optimizer.learning_rate": [0.01, 0.1]}


class GridSearch(StrictModel):
    """Every combination of the parameters' values; the last parameter changes fastest."""

    kind: Literal["grid"] = "grid"


class RandomSearch(StrictModel):
    """Points drawn at random, the same ones for the same seed."""

    kind: Literal["random"]
    trials: int = Field(ge=1, le=100_000, description="How many points to draw.")
    seed: int = Field(0, ge=0, le=MAX_SEED)


class ListSearch(StrictModel):
    """Exactly the given points."""

    kind: Literal["list"]


class Range(StrictModel):
    """What a random search draws from: evenly, or evenly in the logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = Field(False, description="Whole numbers from low to high, both included.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if not math.isfinite(self.high - self.low):
            raise ValueError("low and high are too far apart")
        if self.log and self.low <= 0:
            raise ValueError("with log, low must be more than 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("with integer, low and high are whole numbers")
        return self


# A list or a `Range`. `search_space` validates each on its own, so that an error points at the value.
Values = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "array", "items": {}}, Range.model_json_schema()]})]


class CrossValidation(StrictModel):
    """Stratified folds of the train split, as scikit-learn's GridSearchCV makes them."""

    folds: int = Field(5, ge=2, le=20)


class SuccessiveHalving(StrictModel):
    """At each rung, only the best `1/reduction` of the trials that have reached it go on (ASHA, Li et al., 2020).

    The rungs are at epochs / reduction, epochs / reduction², …; a trial that ends there has succeeded.
    """

    kind: Literal["successive_halving"] = "successive_halving"
    rungs: int = Field(3, ge=1, le=8)
    reduction: int = Field(3, ge=2, le=10)


class SweepSubmission(StrictModel):
    """A sweep to submit: what is searched, and how."""

    preset: str | None = Field(None, description="Start from this sweep preset.", examples=["practice"])
    name: Name = ""
    notes: Notes = ""
    tags: Tags = {}
    priority: Priority = 0
    base: dict[str, Any] = Field(
        {},
        description="What all trials share: part of a run's configuration, with `preset` or `from_run` if wanted.",
        examples=[{"preset": "minibatch-sigmoid", "training": {"epochs": 200}}],
    )
    search: Annotated[GridSearch | RandomSearch | ListSearch, Field(discriminator="kind")] = GridSearch()
    parameters: dict[ParameterPath, Values] | None = Field(
        None,
        description="For a grid or a random search: a field's values by its dotted path; a random search takes ranges.",
        examples=[EXAMPLE_PARAMETERS],
    )
    points: list[dict[ParameterPath, Any]] | None = Field(
        None, description="For a list: each point's values by dotted path.", examples=[None]
    )
    repeats: int = Field(1, ge=1, le=100, description="Trains each point with so many seeds, counted up from its own.")
    cross_validation: CrossValidation | None = Field(
        None, description="Choose by folds of the train split; val is seen once, by the final run.", examples=[None]
    )
    stopping: SuccessiveHalving | None = Field(None, description="End hopeless trials early.", examples=[None])


class SweepPlan(BaseModel):
    """What a sweep would train."""

    num_points: int = Field(examples=[96])
    num_trials: int = Field(description="Points × repeats × folds.", examples=[96])
    num_stacks: int = Field(description="How many batches of runs that are trained together.", examples=[8])
    num_steps: int = Field(description="Optimizer steps of all trials, if none ends early.")
    estimated_bytes: int = Field(description="What they would add to the database, about.")
    estimated_seconds: float | None = Field(
        description="From the speed of earlier runs, for one worker like theirs; null before there are any."
    )
    hint: str | None = Field(None, description="Why no live worker could train some of them now; null: one could.")


SweepStatus = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]


class SweepProgress(BaseModel):
    trials: int
    queued: int
    running: int
    paused: int
    succeeded: int
    failed: int
    cancelled: int
    epochs_done: int = Field(description="Of all trials; those that ended early count in full.")
    epochs: int
    eta_seconds: float | None = Field(description="Left at the speed since the start; null while nothing is trained.")


class BestTrial(BaseModel):
    run_id: str
    trial_number: int
    point_number: int
    parameters: dict[str, Any]
    val_accuracy: float


class SweepView(BaseModel):
    """A search over configurations; its state derives from its trials."""

    id: str = Field(examples=["01a20e0d-2749-744b-97b3-2c4e726a71a2"])
    name: str
    notes: str
    tags: dict[str, str]
    priority: int
    status: SweepStatus
    base: dict[str, Any] = Field(
        description="The full configuration that the points change.", examples=[EXAMPLE_CONFIG]
    )
    search: dict[str, Any]
    parameters: dict[str, Any] | None
    num_points: int = Field(description="What the search came to.", examples=[96])
    points: list[dict[str, Any]] | None = Field(
        description="Values by dotted path; `point_number` counts them from 0. Null with `points=false`."
    )
    repeats: int
    cross_validation: CrossValidation | None
    stopping: SuccessiveHalving | None
    progress: SweepProgress
    best: BestTrial | None = Field(
        description="The trial with the highest val accuracy so far; null with cross-validation, where val is a fold."
    )
    final_run_id: str | None = Field(description="With cross-validation: the run of the chosen point.")
    created_at: datetime
    finished_at: datetime | None


class TrialReport(BaseModel):
    """One trial, as its run ended."""

    rank: int | None = Field(description="1 is the best; null without a saved model.")
    run_id: str
    trial_number: int
    point_number: int
    parameters: dict[str, Any]
    seed: int
    fold: int | None
    status: str
    error: str | None
    epoch: int = Field(description="Epochs done.")
    is_ended_early: bool = Field(description="It succeeded before its last epoch: stopping, or early stopping.")
    val_accuracy: float | None = Field(description="Of the saved model; with cross-validation, on its fold.")
    val_loss: float | None
    train_accuracy: float | None = Field(description="Of the saved model, dropout off.")
    shifted_accuracy: float | None = Field(description="Of the saved model on shifted val; null for a fold.")
    shifted_standard_error: float | None
    best_epoch: int | None = Field(description="With the highest val accuracy.")
    epochs_to_plateau: int | None = Field(
        description="First evaluated epoch within 0.5 points of the trial's best val accuracy."
    )
    seconds_to_plateau: float | None = Field(description="Training time until then, beside the others of its stack.")
    epochs_to_full_train_accuracy: int | None = Field(description="First evaluated epoch at 100 % on train.")
    num_parameters: int | None


class PointReport(BaseModel):
    """A point of the search, over its repeats and folds."""

    rank: int | None
    point_number: int
    parameters: dict[str, Any]
    num_trials: int
    num_succeeded: int
    mean_val_accuracy: float | None
    standard_error: float | None = Field(description="Of the mean, over repeats or folds; null for a single trial.")
    min_val_accuracy: float | None
    max_val_accuracy: float | None
    mean_shifted_accuracy: float | None = Field(description="On shifted val; null for folds.")
    mean_epochs_to_plateau: float | None
    mean_seconds_to_plateau: float | None
    num_parameters: int | None
    is_within_noise: bool = Field(description="Whether the best point is better by no more than noise.")
    num_full_train_accuracy: int = Field(description="Trials that reached 100 % on train.")


class Noise(BaseModel):
    """How far apart two points may be without one being better."""

    kind: Literal["repeats", "folds", "images"] = Field(
        description="`images`: there is one trial a point, so the standard error is that of a share of the val images."
    )
    best_point: int
    standard_error: float = Field(description="Of the best point's mean.")
    num_within_noise: int = Field(description="Points that are no worse than the best but for noise, itself included.")
    smallest_point: int = Field(description="Of those, the one with the fewest parameters.")
    quickest_point: int = Field(description="Of those, the one with the fewest epochs to its plateau.")


class ValueEffect(BaseModel):
    """What the points with one value of a parameter have in common."""

    value: Any
    num_points: int
    mean_val_accuracy: float = Field(description="Of these points' means.")
    standard_error: float | None = Field(description="Of that mean, over points; null for one point.")
    best_val_accuracy: float
    mean_epochs_to_plateau: float | None


class ParameterEffect(BaseModel):
    path: str
    share_of_variance: float | None = Field(
        description="Of the points' val accuracies, explained by this parameter alone (eta squared), 0 to 1; null for "
        "a parameter that is drawn from a range, or when there is no variance."
    )
    values: list[ValueEffect] = Field(description="A value drawn from a range stands in quarters, by rank.")


class Choice(BaseModel):
    """What cross-validation chose."""

    rule: str
    point_number: int
    parameters: dict[str, Any]
    mean_val_accuracy: float = Field(description="Over the folds.")
    standard_error: float
    final_run_id: str
    final_status: str
    final_val_accuracy: float | None = Field(
        description="Of the chosen point, trained on the whole train split, on val, which no choice has seen."
    )


class SweepReport(BaseModel):
    """What a sweep has found so far."""

    sweep_id: str
    name: str
    status: SweepStatus
    paths: list[str] = Field(description="The parameters that were searched.")
    answer: str = Field(
        description="What matters of it in a few sentences.",
        examples=[
            "learning_rate decides most (alone 52 % of the variance). Of 12 points the best is hidden_sizes 24-24, "
            "learning_rate 0.1, with 98.52 % on val. 3 others are within noise of it; the smallest, hidden_sizes "
            "16-16, learning_rate 0.1, needs 62 % of its parameters."
        ],
    )
    trials: list[TrialReport] | None = Field(description="Best first; null with `trials=false`.")
    points: list[PointReport] = Field(description="Best first, by mean val accuracy, then fewest parameters.")
    noise: Noise | None
    effects: list[ParameterEffect] = Field(description="Strongest first.")
    pareto: list[int] = Field(
        description="Points that no other beats in accuracy, parameters and epochs to the plateau at once."
    )
    choice: Choice | None
