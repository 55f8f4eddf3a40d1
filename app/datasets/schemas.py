"""Response models for datasets."""

from __future__ import annotations

from pydantic import BaseModel, Field


class DatasetView(BaseModel):
    name: str = Field(examples=["digits"])
    description: str
    num_samples: int = Field(examples=[1797])
    image_shape: list[int] = Field([8, 8])
    max_pixel: int = Field(16, description="Pixels run from 0 to this.")
    num_classes: int = Field(10)


class SplitView(BaseModel):
    val_size: float
    test_size: float
    seed: int
    fold: int = Field(description="Which of `num_folds` parts of the train split is val.")
    num_folds: int = Field(description="1: val is not part of the train split.")
    num_train: int
    num_val: int
    num_test: int
    class_counts: dict[str, list[int]] = Field(description="Images of each digit, 0 to 9, in `train`, `val`, `test`.")


class DatasetDetail(DatasetView):
    class_counts: list[int] = Field(description="Images of each digit, 0 to 9.")
    splits: list[SplitView] = Field(description="Those used so far; the first is the notebook's.")
    sha256: str = Field(description="Of pixels followed by labels, one byte each.")


class Sample(BaseModel):
    index: int = Field(description="In the dataset.")
    label: int
    pixels: list[list[int]] = Field(description="8 rows of 8 pixels, 0–16: as `/predict` takes them.")
