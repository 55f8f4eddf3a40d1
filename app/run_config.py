"""`RunConfig`: what a run trains, with the bounds of every number. `Settings` says where the service runs.

A request's body holds part of a configuration; `complete` merges it into the defaults, a preset or the configuration
of another run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.datasets.catalog import (
    CANONICAL_SPLIT_SEED,
    CANONICAL_VAL_SIZE,
    DATASETS,
    NUM_CLASSES,
    NUM_PIXELS,
    DatasetInfo,
    SplitSizes,
    fold_sizes,
    split_sizes,
)
from app.validation import TEXT
from app.wording import count

CONFIG_VERSION = 1
MAX_SEED = 2**32 - 1  # largest `random_state` of scikit-learn
MAX_STEPS = 20_000_000
MAX_MULTIPLY_ADDS = 10**14
MAX_COPIES = 256  # warped copies of an image: more were no better
MAX_TREE_DEPTHS = 100_000  # n_estimators × max_depth, which bounds a forest's size
MAX_AUTO_METRICS = 200
MAX_SNAPSHOTS = 32
MAX_SNAPSHOT_NUMBERS = 2_000_000  # weights and biases in all snapshots of a run: one response holds them
MAX_MEMBERS = 10  # of an ensemble
SMALLEST_EPSILON = 1e-20  # a step overflows with less: the square of a smaller gradient is 0 in float32

ModelKind = Literal["mlp", "random_forest", "ensemble"]

# Context of a validation: the configuration is submitted. Stored configurations are validated without it.
SUBMITTED = {"is_submitted": True}

# Networks are trained in float32 (IEEE 754 binary32). These are its smallest number of full precision, its largest
# number below 1, and the smallest number that rounds to 1.
SMALLEST_FLOAT32 = 2.0**-126
LARGEST_BELOW_1 = 1 - 2.0**-24
ROUNDS_TO_1 = 1 - 2.0**-25


def _check_epsilon(value: float, info: ValidationInfo) -> float:
    if info.context is SUBMITTED and value < SMALLEST_EPSILON:
        raise ValueError(f"Input should be at least {SMALLEST_EPSILON:g}: with less, a step overflows float32")
    return value


Epsilon = Annotated[float, AfterValidator(_check_epsilon)]


class StrictModel(BaseModel):
    """A part of a configuration: no unknown fields, no coercion ("3" is not 3), no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _fits_float32(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject what float32 cannot hold, in submissions only: stored configurations stay readable."""
        if info.context is SUBMITTED and isinstance(value, float):
            if 0 < abs(value) < SMALLEST_FLOAT32:
                raise ValueError(f"float32 holds 0, or at least {SMALLEST_FLOAT32:.8g}; got {value!r}")
            if ROUNDS_TO_1 <= value < 1:
                raise ValueError(f"float32 holds at most {LARGEST_BELOW_1:.8f} below 1; got {value!r}")
        return value


class Fold(StrictModel):
    """A part of the train split that is held out as val, so that the split's own val stays unseen."""

    number: int = Field(ge=0, description="Which of them.")
    of: int = Field(ge=2, le=20, description="How many there are.")

    @model_validator(mode="after")
    def _exists(self) -> Self:
        if self.number >= self.of:
            raise ValueError(f"there are {self.of} folds: number is 0 to {self.of - 1}")
        return self


class Split(StrictModel):
    """A stratified split: shares of the whole dataset."""

    val_size: float = Field(CANONICAL_VAL_SIZE, ge=0.05, le=0.8, description="Share of the images held out as val.")
    test_size: float = Field(
        0.0, ge=0.0, le=0.5, description="Share held out as test, from what val leaves; evaluated once, at the end."
    )
    seed: int = Field(CANONICAL_SPLIT_SEED, ge=0, le=MAX_SEED)
    fold: Fold | None = Field(
        None, description="Train on the train split without this fold, and take the fold for val; null: all of it."
    )

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> Self:
        if self.val_size + self.test_size > 0.9:
            raise ValueError("val_size and test_size together may take at most 0.9 of the images")
        if 0 < self.test_size < 0.01:
            raise ValueError("test_size is 0, or at least 0.01, so that each digit is in it")
        return self

    @property
    def is_canonical(self) -> bool:
        """Whether val is the notebook's: only models measured on the same images are ranked against each other."""
        is_notebooks = self.val_size == CANONICAL_VAL_SIZE and self.seed == CANONICAL_SPLIT_SEED
        return is_notebooks and self.fold is None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that identify this split in the table `splits`."""
        fold = {} if self.fold is None else {"fold": self.fold.number, "num_folds": self.fold.of}
        return self.model_dump(exclude={"fold"}) | fold

    def explain_folds(self, dataset: DatasetInfo, num_folds: int) -> str | None:
        """Explain why the train split cannot be cut into so many folds; None: it can. Each fold needs each digit.

        Stored configurations are not checked, since they were accepted under other rules.
        """
        train = split_sizes(dataset.num_samples, self.val_size, self.test_size).train
        most = dataset.smallest_class * train // dataset.num_samples
        if num_folds <= most:
            return None
        left = f"val_size {self.val_size:g} and test_size {self.test_size:g} leave {train:,} images to train on"
        return f"{left}, {most} of the rarest digit: they can be cut into at most {most} folds, not {num_folds}"

    def sizes(self, num_samples: int) -> SplitSizes:
        """Return the number of images in each part."""
        sizes = split_sizes(num_samples, self.val_size, self.test_size)
        return sizes if self.fold is None else fold_sizes(sizes, self.fold.number, self.fold.of)


class Mlp(StrictModel):
    """A multilayer perceptron: 64 pixels, hidden layers, 10 classes."""

    kind: Literal["mlp"] = "mlp"
    hidden_sizes: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        [128, 64], max_length=8, description="Width of each hidden layer; empty: a linear classifier."
    )
    activation: Literal["sigmoid", "tanh", "relu"] = "relu"
    dropout: float = Field(0.2, ge=0.0, le=0.9, description="Share of each hidden layer dropped in training.")

    @property
    def num_parameters(self) -> int:
        sizes = [NUM_PIXELS, *self.hidden_sizes, NUM_CLASSES]
        return sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes))


class RandomForest(StrictModel):
    """scikit-learn's RandomForestClassifier, on the raw pixels."""

    kind: Literal["random_forest"]
    n_estimators: int = Field(10, ge=1, le=1000)
    max_depth: int = Field(10, ge=1, le=100)

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.n_estimators * self.max_depth > MAX_TREE_DEPTHS:
            raise ValueError(f"n_estimators × max_depth may be at most {MAX_TREE_DEPTHS}")
        return self


class Ensemble(StrictModel):
    """The mean of networks that are trained already: their saved models become one."""

    kind: Literal["ensemble"]
    members: list[Annotated[str, StringConstraints(min_length=1, max_length=36, pattern=TEXT)]] = Field(
        min_length=2,
        max_length=MAX_MEMBERS,
        description="Ids of succeeded runs of kind `mlp`, all on one split, which becomes the ensemble's.",
        json_schema_extra={"uniqueItems": True},
    )

    @field_validator("members")
    @classmethod
    def _are_distinct(cls, members: list[str]) -> list[str]:
        for number, member in enumerate(members):
            if member in members[:number]:
                raise _wrong_field((number,), member, "members are distinct: this one stands before")
        return members


class Sgd(StrictModel):
    """Stochastic gradient descent with momentum, as torch.optim.SGD."""

    kind: Literal["sgd"]
    learning_rate: float = Field(0.05, gt=0.0, le=100.0)
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)
    nesterov: bool = Field(
        False, description="Step along the gradient plus the new momentum; needs a momentum above 0."
    )

    @field_validator("nesterov")
    @classmethod
    def _nesterov_has_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return nesterov


class Adam(StrictModel):
    """Adam, as torch.optim.Adam."""

    kind: Literal["adam"]
    learning_rate: float = Field(0.001, gt=0.0, le=100.0)
    beta1: float = Field(0.9, ge=0.0, lt=1.0)
    beta2: float = Field(0.999, ge=0.0, lt=1.0)
    epsilon: Epsilon = Field(1e-8, gt=0.0, le=1.0)
    weight_decay: float = Field(0.0, ge=0.0, le=10.0)


class Constant(StrictModel):
    """The learning rate is the same at every step."""

    kind: Literal["constant"] = "constant"


class Cosine(StrictModel):
    """The learning rate rises in a line to its full value, then falls along a cosine to 0 at the end of the run."""

    kind: Literal["cosine"]
    warmup_steps: int = Field(
        0, ge=0, le=MAX_STEPS, description="Steps until the full learning rate; fewer than the run has."
    )


class AffineElastic(StrictModel):
    """Copies of each image that are rotated, scaled, sheared, shifted, bent, and thicker or thinner."""

    kind: Literal["affine_elastic"] = "affine_elastic"
    copies: int = Field(256, ge=1, le=MAX_COPIES, description="Copies of an image; each epoch draws one of them.")
    strength: float = Field(1.0, ge=0.25, le=2.0, multiple_of=0.25, description="Scales every range, in steps of 0.25.")


class EarlyStopping(StrictModel):
    """End a run whose val metrics have not improved for `patience` epochs."""

    patience: int = Field(
        50, ge=1, le=100_000, description="Epochs without improvement; looked at when a run is evaluated."
    )
    min_delta: float = Field(0.0, ge=0.0, le=1.0, description="Gain in val accuracy that counts as improvement.")


class Training(StrictModel):
    """How an MLP is trained."""

    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind")] = Sgd(kind="sgd", learning_rate=0.05)
    batch_size: int | None = Field(64, ge=1, le=10_000, description="Images a step; null: all of them (full batch).")
    epochs: int = Field(100, ge=1, le=100_000)
    evaluate_every: Literal["auto"] | Annotated[int, Field(ge=1, le=100_000)] = Field(
        "auto", description="Epochs between evaluations; `auto` keeps at most 200 points a run."
    )
    keep: Literal["best", "last"] = Field("best", description="Whose epoch's weights the saved model gets.")
    early_stopping: EarlyStopping | None = None
    schedule: Annotated[Constant | Cosine, Field(discriminator="kind")] = Field(
        Constant(), description="Of the learning rate."
    )
    augmentation: AffineElastic | None = Field(
        None, description="Train on warped copies of the images, as people write them; null: on the images themselves."
    )
    snapshots: int = Field(
        0,
        ge=0,
        le=MAX_SNAPSHOTS,
        description="Evaluated epochs, spread over the training, whose weights and val predictions are kept.",
    )

    def images_a_step(self, num_train_samples: int) -> int:
        """Images a step; all of them in a full batch."""
        return min(self.batch_size or num_train_samples, num_train_samples)

    def explain_warm_up(self, num_train_samples: int) -> str | None:
        """Explain why the warm-up does not go with a train split of this size; None: it does."""
        num_steps = self.num_steps(num_train_samples)
        if not isinstance(self.schedule, Cosine) or self.schedule.warmup_steps < num_steps:
            return None
        return f"warmup_steps should be less than the {count(num_steps, 'step')} of the run"

    def num_steps(self, num_train_samples: int) -> int:
        """Optimizer steps of the whole run."""
        return self.epochs * math.ceil(num_train_samples / self.images_a_step(num_train_samples))


class RunConfig(StrictModel):
    """What one run trains, complete: a configuration and its seed make a result that can be repeated."""

    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of initial weights, data order, dropout, or the forest.")
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dataset: Literal["digits"] = "digits"
    split: Split = Split()
    model: Annotated[Mlp | RandomForest | Ensemble, Field(discriminator="kind")] = Mlp()
    scaling: Literal["byte", "unit"] | None = Field(
        "unit", description="Pixels times 1/255 (`byte`) or 1/16 (`unit`); null for all but an mlp: they take them raw."
    )
    training: Training | None = Field(Training(), description="null for all but an mlp.")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_only_an_mlp_has(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and _kind_of(data) in _WITHOUT_TRAINING:
            return {"scaling": None, "training": None, **data}
        return data

    @field_validator("scaling")
    @classmethod
    def _scaling_fits_the_model(cls, scaling: str | None, info: ValidationInfo) -> str | None:
        model = info.data.get("model")
        if isinstance(model, RandomForest | Ensemble) and scaling is not None:
            raise ValueError(f"scaling does not go with {_NAMES[model.kind]}, which takes raw pixels: leave it out")
        if isinstance(model, Mlp) and scaling is None:
            raise ValueError("an mlp needs scaling: byte or unit")
        return scaling

    @field_validator("training")
    @classmethod
    def _training_fits_the_model(cls, training: Training | None, info: ValidationInfo) -> Training | None:
        model = info.data.get("model")
        if isinstance(model, RandomForest | Ensemble) and training is not None:
            raise ValueError(f"training does not go with {_NAMES[model.kind]}: leave it out")
        if isinstance(model, Mlp) and training is None:
            raise ValueError("an mlp needs training: leave it out for the defaults, or send an object")
        if isinstance(model, Mlp) and training is not None:
            number = training.snapshots * model.num_parameters
            if number > MAX_SNAPSHOT_NUMBERS:
                most = MAX_SNAPSHOT_NUMBERS // model.num_parameters
                detail = f"{training.snapshots} snapshots of {model.num_parameters:,} parameters are {number:,} numbers"
                raise ValueError(f"{detail}, more than {MAX_SNAPSHOT_NUMBERS:,}: snapshots may be at most {most}")
        return training

    @field_validator("training")
    @classmethod
    def _warm_up_ends(cls, training: Training | None, info: ValidationInfo) -> Training | None:
        split, dataset = info.data.get("split"), info.data.get("dataset")
        if training is None or not isinstance(training.schedule, Cosine) or split is None or dataset is None:
            return training
        why = training.explain_warm_up(split.sizes(DATASETS[dataset].num_samples).train)
        if why:
            raise _wrong_field(("schedule", "warmup_steps"), training.schedule.warmup_steps, why)
        return training

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.training is None or self.num_steps is None or self.num_parameters is None:
            return self
        if self.num_steps > MAX_STEPS:
            raise ValueError(f"{self.num_steps:,} optimizer steps are more than the {MAX_STEPS:,} that a run may take")
        multiply_adds = self.num_parameters * self.num_train_samples * self.training.epochs
        if multiply_adds > MAX_MULTIPLY_ADDS:
            raise ValueError(
                f"parameters × train images × epochs is {multiply_adds:.1e}, more than the {MAX_MULTIPLY_ADDS:.0e}"
                " that a run may take"
            )
        return self

    @property
    def num_train_samples(self) -> int:
        return self.split.sizes(DATASETS[self.dataset].num_samples).train

    @property
    def epochs(self) -> int:
        """Passes over the train split; a forest's epoch is one tree, and an ensemble has one epoch."""
        if isinstance(self.model, RandomForest):
            return self.model.n_estimators
        if isinstance(self.model, Ensemble):
            return 1
        assert self.training is not None, "validated: an mlp has training"
        return self.training.epochs

    @property
    def num_steps(self) -> int | None:
        """Optimizer steps of the whole run; None for a forest and an ensemble."""
        if self.training is None:
            return None
        return self.training.num_steps(self.num_train_samples)

    @property
    def augmentation(self) -> AffineElastic | None:
        return None if self.training is None else self.training.augmentation

    @property
    def num_parameters(self) -> int | None:
        """Number of weights and biases; None for a forest and an ensemble, whose configurations do not tell it."""
        return self.model.num_parameters if isinstance(self.model, Mlp) else None

    @property
    def evaluate_every(self) -> int:
        """Epochs between evaluations; the first and the last epoch are always evaluated."""
        if self.training is not None and self.training.evaluate_every != "auto":
            return self.training.evaluate_every
        return 1 if self.epochs <= MAX_AUTO_METRICS else math.ceil(self.epochs / (MAX_AUTO_METRICS - 2))


def _wrong_field(path: tuple[str | int, ...], value: Any, message: str) -> ValidationError:
    """An error at a field below the one that a validator looks at: pydantic puts that one's place before `path`."""
    error = PydanticCustomError("value_error", message)
    return ValidationError.from_exception_data("RunConfig", [InitErrorDetails(type=error, loc=path, input=value)])


_NAMES = {"random_forest": "a random_forest", "ensemble": "an ensemble"}
_WITHOUT_TRAINING = tuple(_NAMES)


def _kind_of(config: Mapping[str, Any]) -> Any:
    """Return the model's kind in a configuration that need not be valid; None: it does not say."""
    model = config.get("model")
    return model.get("kind") if isinstance(model, Mapping) else getattr(model, "kind", None)


def is_ensemble(config: Mapping[str, Any]) -> bool:
    """Whether a configuration, which need not be valid, is an ensemble's."""
    return bool(_kind_of(config) == "ensemble")


def complete(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge overrides into a base configuration.

    Objects merge field by field; an object of another `kind` replaces the whole object; null is a value. Fields that
    do not fit the resulting model's kind are left out, unless the override names them. An ensemble takes neither
    dataset nor split from the base: its members have theirs.
    """
    if is_ensemble(_merge(base, overrides)):
        base = {name: value for name, value in base.items() if name not in ("dataset", "split")}
    merged = _merge(base, overrides)
    if (_kind_of(merged) in _WITHOUT_TRAINING) != (_kind_of(base) in _WITHOUT_TRAINING):
        for field in ("scaling", "training"):
            if field not in overrides:
                merged.pop(field, None)
    return merged


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    if "kind" in overrides and "kind" in base and overrides["kind"] != base["kind"]:
        return dict(overrides)
    merged = dict(base)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged
