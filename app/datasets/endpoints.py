"""`/datasets`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query

from app.datasets import service
from app.datasets.catalog import DATASETS
from app.datasets.schemas import DatasetDetail, DatasetView, Sample, SplitView
from app.dependencies import ReadSession
from app.paging import Page
from app.problem import problems

router = APIRouter(tags=["datasets"])

MAX_SAMPLES = 2000

Name = Annotated[str, Path(max_length=64, examples=["digits"])]


@router.get("/datasets", summary="List datasets", responses=problems())
def list_datasets() -> Page[DatasetView]:
    """The datasets that a run can name."""
    infos = DATASETS.values()
    return Page(
        data=[DatasetView(name=info.name, description=info.description, num_samples=info.num_samples) for info in infos]
    )


@router.get("/datasets/{name}", summary="Show a dataset", responses=problems(404))
def get_dataset(name: Name, session: ReadSession) -> DatasetDetail:
    """Its size, how often each digit occurs, and the splits that runs have used.

    503 until a worker has registered it.
    """
    images = service.get_images(session, name)
    info = service.get_info(name)
    return DatasetDetail(
        name=info.name,
        description=info.description,
        num_samples=len(images.labels),
        class_counts=images.class_counts(),
        sha256=images.sha256,
        splits=[
            SplitView(
                val_size=split.val_size,
                test_size=split.test_size,
                seed=split.seed,
                fold=split.fold,
                num_folds=split.num_folds,
                **{f"num_{part}": len(service.indices(split, part)) for part in ("train", "val", "test")},
            )
            for split in service.list_splits(session, name)
        ],
    )


@router.get("/datasets/{name}/samples", summary="Read images", responses=problems(404))
def list_samples(
    name: Name,
    session: ReadSession,
    split: Annotated[
        Literal["train", "val"] | None, Query(description="Of the notebook's split; default: all.")
    ] = None,
    label: Annotated[int | None, Query(ge=0, le=9)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SAMPLES)] = 12,
    after: Annotated[int, Query(ge=0, le=10**6, description="Cursor: how many images to leave out.")] = 0,
) -> Page[Sample]:
    """Images with their labels, in the order of the split, or of the dataset."""
    images = service.get_images(session, name)
    found = np.arange(len(images.labels)) if split is None else service.canonical_indices(session, name, split)
    if label is not None:
        found = found[images.labels[found] == label]
    page = found[after : after + limit]
    has_more = after + limit < len(found)
    return Page(
        data=[Sample(index=i, label=images.labels[i], pixels=images.pixels[i].tolist()) for i in page.tolist()],
        has_more=has_more,
        next=str(after + limit) if has_more else None,
    )
