"""Response models for what is inside a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Curve = Literal["train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy", "val_loss", "val_accuracy"]
Values = Annotated[list[float | None] | None, Field(description="At these epochs; only if it was asked for.")]


class Series(BaseModel):
    """A run's metrics at some of its evaluated epochs, one list per metric."""

    run_id: str
    of: int = Field(description="How many epochs were evaluated so far.", examples=[200])
    epochs: list[int] = Field(description="Evenly spaced, with the first, the last and the best one.")
    train_loss: Values = None
    train_accuracy: Values = None
    train_eval_loss: Values = None
    train_eval_accuracy: Values = None
    val_loss: Values = None
    val_accuracy: Values = None


class Layer(BaseModel):
    """One step from pixels to probabilities, or one member of an ensemble."""

    name: str = Field(examples=["linear1"])
    kind: Literal["scale", "linear", "sigmoid", "tanh", "relu", "dropout", "softmax", "random_forest", "member", "mean"]
    input_shape: list[int] = Field(description="Of one image.", examples=[[64]])
    output_shape: list[int] = Field(examples=[[24]])
    num_parameters: int = Field(examples=[1560])
    weight_norm: float | None = Field(description="Euclidean, weights and biases, at the newest evaluated epoch.")
    gradient_norm: float | None = Field(description="The same of the gradient, at that epoch's last step.")
    note: str = Field(description="What else there is to say.", examples=["rate 0.25, in training only"])


class Summary(BaseModel):
    """A run's network, layer by layer; of an ensemble, its members."""

    run_id: str
    status: str
    epoch: int | None = Field(description="Of the norms; null before the first evaluation.")
    hint: str | None = Field(None, description="Why no live worker can take a queued run; null otherwise.")
    layers: list[Layer]
    num_parameters: int | None = Field(description="Weights and biases; of a forest its nodes, null until it is grown.")
    size_bytes: int | None = Field(description="Of the parameters, 4 bytes each.")


class LayerWeights(BaseModel):
    """One layer's parameters at a checkpoint."""

    run_id: str
    layer: int
    num_layers: int
    role: Literal["best", "last"]
    epoch: int
    weights: list[list[float]] = Field(description="Outputs × inputs, as in torch.nn.Linear.")
    biases: list[float]


class Confusion(BaseModel):
    """The saved model on val: rows are true digits, columns predicted ones."""

    labels: list[int] = Field(description="0 to 9.")
    counts: list[list[int]]
    normalized: list[list[float]] = Field(description="Shares of each row; zeros for a digit that does not occur.")
    precision: list[float] = Field(description="By digit; 0 for one that is never predicted, as scikit-learn has it.")
    recall: list[float]
    accuracy: float


class Mistake(BaseModel):
    """An image that the saved model gets wrong."""

    index: int = Field(description="In the dataset.")
    pixels: list[list[int]] = Field(description="8 rows of 8, 0–16.")
    label: int
    predicted: int
    confidence: float = Field(description="The probability of what was predicted.")


class MistakePage(BaseModel):
    """A run's mistakes, the most confident first."""

    data: list[Mistake]
    has_more: bool
    next: str | None = Field(description="Cursor: send it as `after`.")
    total: int = Field(description="How many there are.")


PredictionSort = Literal["index", "confidence", "-confidence"]


class Prediction(Mistake):
    """An image of val, and what the saved model predicts."""

    probabilities: list[float] = Field(description="Of the digits 0 to 9.")


class PredictionPage(BaseModel):
    """A run's predictions on val, in the order that was asked for."""

    data: list[Prediction]
    has_more: bool
    next: str | None = Field(description="Cursor: send it as `after`.")
    total: int = Field(description="How many there are with this label and prediction.")


class Comparison(BaseModel):
    """The mistakes of two runs on the same images, the most confident first."""

    against: str = Field(description="The other run's id.")
    fixed: list[Mistake] = Field(description="The other run's alone, as it made them.")
    introduced: list[Mistake] = Field(description="This run's alone.")
    shared: list[Mistake] = Field(description="Of both, as this run makes them.")


class SnapshotLayer(BaseModel):
    """A linear layer's parameters."""

    weights: list[list[float]] = Field(description="Outputs × inputs, as in torch.nn.Linear.")
    biases: list[float]


class SnapshotView(BaseModel):
    """A network after an epoch: its parameters, and what it predicts for each image of val."""

    epoch: int
    layers: list[SnapshotLayer] = Field(description="From the pixels on.")
    digits: list[int] = Field(description="One for each image of val.")
    confidences: list[float] = Field(description="The probability of that digit.")


class SnapshotPage(BaseModel):
    """Snapshots of a run, by epoch; a page holds them all."""

    run_id: str
    images: list[int] = Field(description="The images of val, by their index in the dataset: those of `digits`.")
    labels: list[int] = Field(description="Their true digits.")
    data: list[SnapshotView]
    has_more: bool = Field(False, description="Always false.")
    next: str | None = Field(None, description="Always null.")
