"""Request and response models for runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.paging import Page
from app.run_config import ModelKind, RunConfig, StrictModel
from app.tables import Checkpoint, Metric, Run, RunStatus
from app.validation import TEXT

Name = Annotated[str, Field(max_length=200, pattern=TEXT, examples=["tanh with dropout"])]
Notes = Annotated[str, Field(max_length=10_000, pattern=TEXT)]
TagKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
TagValue = Annotated[str, Field(max_length=200, pattern=TEXT)]
Tags = Annotated[
    dict[TagKey, TagValue],
    Field(max_length=32, examples=[{"unit": "2"}], json_schema_extra={"additionalProperties": False}),
]
Priority = Annotated[int, Field(ge=-100, le=100, description="Queued runs of higher priority are claimed first.")]
RunSort = Literal[
    "created_at",
    "-created_at",
    "val_accuracy",
    "-val_accuracy",
    "shifted_accuracy",
    "-shifted_accuracy",
    "num_parameters",
    "-num_parameters",
    "name",
    "-name",
]

EXAMPLE_CONFIG = {
    "seed": 0,
    "device": "auto",
    "dataset": "digits",
    "split": {"val_size": 0.3, "test_size": 0.0, "seed": 20231110},
    "model": {"kind": "mlp", "hidden_sizes": [24, 24], "activation": "tanh", "dropout": 0.25},
    "scaling": "byte",
    "training": {
        "optimizer": {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False},
        "batch_size": 20,
        "epochs": 800,
        "evaluate_every": "auto",
        "keep": "best",
        "early_stopping": None,
        "schedule": {"kind": "constant"},
        "augmentation": None,
        "snapshots": 0,
    },
}


class RunLabels(StrictModel):
    """What a client calls a run; it has no influence on what is trained."""

    name: Name = ""
    notes: Notes = ""
    tags: Tags = {}
    priority: Priority = 0


class RunSubmission(RunConfig, RunLabels):
    """A run to submit: part of a configuration; the rest comes from the defaults, `preset` or `from_run`."""

    preset: str | None = Field(None, description="Start from this preset's configuration.", examples=["dropout-tanh"])
    from_run: str | None = Field(None, description="Start from this run's configuration.", examples=[None])


class RunPatch(StrictModel):
    """What of a run can be changed after it was submitted."""

    name: Name | None = None
    notes: Notes | None = None
    tags: Tags | None = None
    priority: Priority | None = None


class Plan(BaseModel):
    """What a submission would train."""

    config: RunConfig = Field(examples=[EXAMPLE_CONFIG])
    num_parameters: int | None = Field(description="Weights and biases; null for a forest.", examples=[2410])
    num_steps: int | None = Field(description="Optimizer steps; null for all but an mlp.", examples=[50400])
    estimated_bytes: int = Field(description="What it would add to the database, about.", examples=[150000])
    estimated_seconds: float | None = Field(
        None,
        description="Of training, from the speed of earlier runs that were trained alone; null before there are any, "
        "and for an ensemble, which is not trained.",
        examples=[2.5],
    )
    hint: str | None = Field(None, description="Why no live worker could train it now; null: one could.")


class Progress(BaseModel):
    epoch: int = Field(description="Epochs done.", examples=[812])
    epochs: int = Field(examples=[800])
    epochs_per_second: float | None = Field(description="Of the last commit's epochs, in its stack.")
    eta_seconds: float | None = Field(description="Left at this speed; null while not running.")


class Best(BaseModel):
    epoch: int
    val_accuracy: float = Field(examples=[0.98])
    val_loss: float


class RunError(BaseModel):
    code: str = Field(examples=["diverged"])
    detail: str


class RunView(BaseModel):
    """One training of one model."""

    id: str = Field(examples=["01a20e0d-2749-744b-97b3-2c4e726a71a1"])
    name: str
    notes: str
    status: RunStatus
    pending_request: Literal["cancel", "pause"] | None = Field(
        description="What a running run will do at its next epoch boundary."
    )
    model_kind: ModelKind
    config: dict[str, Any] = Field(description="The full configuration.", examples=[EXAMPLE_CONFIG])
    tags: dict[str, str]
    priority: int
    seed: int
    sweep_id: str | None
    trial_number: int | None
    point_number: int | None = Field(description="Of the sweep's points.")
    stack_id: str | None = Field(description="The stack it was trained in.")
    stack_size: int | None
    queue_position: int | None = Field(description="1: next to be claimed; null when not queued.")
    hint: str | None = Field(description="Why no live worker can take a queued run; null otherwise.")
    progress: Progress
    best: Best | None = Field(description="The epoch with the highest val accuracy, then the lowest val loss.")
    test_accuracy: float | None
    shifted_accuracy: float | None = Field(
        description="Of the saved model on shifted val, 10 warped copies of each val image; null without one, for a "
        "fold, and until a worker has evaluated the models of earlier versions."
    )
    shifted_standard_error: float | None = Field(description="Of the shifted accuracy, over val images.")
    num_parameters: int | None
    provenance: dict[str, Any] | None = Field(description="Device and versions that it was trained on.")
    error: RunError | None
    training_seconds: float = Field(description="Of its stack, while it was in it; runs of a stack train at once.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run, queue_position: int | None = None, hint: str | None = None) -> RunView:
        is_running = run.status is RunStatus.RUNNING
        speed = run.epochs_per_second
        return cls(
            **{name: getattr(run, name) for name in _SAME_NAME},
            pending_request="cancel" if run.cancel_requested else "pause" if run.pause_requested else None,
            queue_position=queue_position,
            hint=hint,
            progress=Progress(
                epoch=run.epoch,
                epochs=run.epochs,
                epochs_per_second=speed,
                eta_seconds=(run.epochs - run.epoch) / speed if is_running and speed else None,
            ),
            best=None
            if run.best_epoch is None
            else Best(epoch=run.best_epoch, val_accuracy=run.best_val_accuracy, val_loss=run.best_val_loss),
            error=None if run.error_code is None else RunError(code=run.error_code, detail=run.error_detail or ""),
        )


_COMPOSED = ("pending_request", "queue_position", "hint", "progress", "best", "error")
_SAME_NAME = [name for name in RunView.model_fields if name not in _COMPOSED]


class RunCounts(BaseModel):
    """How many runs have each status."""

    queued: int = 0
    running: int = 0
    paused: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0

    @classmethod
    def of(cls, by_status: Mapping[RunStatus, int]) -> RunCounts:
        return cls(**{status.value: number for status, number in by_status.items()}, total=sum(by_status.values()))


class RunPage(Page[RunView]):
    """A page of runs."""

    counts: RunCounts | None = Field(
        None, description="With `counts=true`: of all runs that the filters other than `status` let pass."
    )


class MetricView(BaseModel):
    """A run's metrics at an epoch; accuracies are shares of 1, losses are mean cross-entropy in nats."""

    epoch: int
    train_loss: float = Field(description="As seen during the epoch, dropout on, weights changing.")
    train_accuracy: float
    train_eval_loss: float = Field(description="Re-evaluated after the epoch, dropout off.")
    train_eval_accuracy: float
    val_loss: float
    val_accuracy: float
    gradient_norms: list[float] | None = Field(
        description="Per layer, at the epoch's last step; null for all but an mlp."
    )
    weight_norms: list[float] | None = Field(description="Per layer, after the epoch; null for all but an mlp.")
    seconds: float = Field(description="Training time of the run up to here.")

    @classmethod
    def of(cls, metric: Metric) -> MetricView:
        return cls.model_validate(metric, from_attributes=True)


class CheckpointView(BaseModel):
    role: Literal["last", "best"]
    epoch: int
    sha256: str
    size_bytes: int
    created_at: datetime

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> CheckpointView:
        return cls.model_validate(checkpoint, from_attributes=True)
