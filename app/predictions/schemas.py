"""Request and response models of `/predict`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.datasets.catalog import MAX_PIXEL
from app.predictions.instances import MAX_INSTANCES, SIDE
from app.validation import Id

A_ZERO = [
    [0, 0, 5, 13, 9, 1, 0, 0],
    [0, 0, 13, 15, 10, 15, 5, 0],
    [0, 3, 15, 2, 0, 11, 8, 0],
    [0, 4, 12, 0, 0, 8, 8, 0],
    [0, 5, 8, 0, 0, 9, 8, 0],
    [0, 4, 11, 0, 1, 12, 7, 0],
    [0, 2, 14, 5, 10, 12, 0, 0],
    [0, 0, 6, 13, 10, 0, 0, 0],
]


Pixel = Annotated[float, Field(ge=0, le=MAX_PIXEL)]
Row = Annotated[list[Pixel], Field(min_length=SIDE, max_length=SIDE)]
Image = Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]


class PredictOptions(BaseModel):
    """The query of `/predict`."""

    model_config = ConfigDict(frozen=True)

    run_id: Id | None = Field(None, description="Ask this run's model instead of the champion.")
    probabilities: bool = Field(True, description="`false` leaves the ten probabilities of each image out.")
    verdict: bool = Field(
        False, description="`true` adds verdicts where probabilities are left out, and to bytes; full JSON has them."
    )


class PredictRequest(BaseModel):
    """Images to classify. Documents the body; `instances.py` reads it."""

    model_config = ConfigDict(extra="forbid")

    instances: list[Image] = Field(
        min_length=1,
        max_length=MAX_INSTANCES,
        description="1 to 4,096 images: 8 rows of 8 pixels, each a number from 0 to 16.",
        examples=[[A_ZERO]],
    )


class AnsweringModel(BaseModel):
    """The model that answered, all of the request."""

    run_id: str
    val_accuracy: float
    sha256: str = Field(description="Of the ONNX file.")


class Prediction(BaseModel):
    digit: int = Field(ge=0, le=9)
    confidence: float = Field(description="Probability of `digit`.")
    verdict: Literal["blank", "not_a_digit", "sure", "unsure"] | None = Field(
        None,
        description="The first that holds. `blank`: no two pixels differ by more than 2. `not_a_digit`: the network "
        "finds too little of any digit, no train image is near, or a drawing lies in more than four pieces or is a "
        "blot. `sure`: of such predictions, 99.7 % are right on shifted val. `unsure`: any other. With "
        "`?probabilities=false` only if `?verdict=true`.",
    )
    probabilities: list[float] | None = Field(
        None, description="Of the digits 0 to 9; not there with `?probabilities=false`."
    )
    pixels: list[list[int]] | None = Field(
        None, description="What the model saw, 8 rows of 8 pixels from 0 to 16: with pictures and strokes alone."
    )


class PredictResponse(BaseModel):
    model: AnsweringModel
    predictions: list[Prediction] = Field(description="One for each image, in order.")
