"""Predictions as a client sees them."""

from __future__ import annotations

from pydantic import BaseModel, Field

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


class PredictRequest(BaseModel):
    """Images to classify. Documents the body; `instances.py` reads it."""

    instances: list[list[list[float]]] = Field(
        description="1 to 4,096 images: 8 rows of 8 pixels, each a number from 0 to 16.", examples=[[A_ZERO]]
    )


class AnsweringModel(BaseModel):
    """The model that answered, all of the request."""

    run_id: str
    val_accuracy: float
    sha256: str = Field(description="Of the ONNX file.")


class Prediction(BaseModel):
    digit: int = Field(ge=0, le=9)
    confidence: float = Field(description="Probability of `digit`.")
    probabilities: list[float] = Field(description="Of the digits 0 to 9.")


class PredictResponse(BaseModel):
    model: AnsweringModel
    predictions: list[Prediction] = Field(description="One for each image, in order.")
