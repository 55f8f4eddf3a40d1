"""Endpoints of `/datasets`."""

from __future__ import annotations

import io
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Response

from app.charts.renderer import Picture
from app.datasets import service
from app.datasets.catalog import DATASETS
from app.datasets.schemas import DatasetDetail, DatasetView, Sample, SplitView
from app.http.dependencies import DatabaseDep, InTurn, ReadSession
from app.http.picture_responses import (
    MAX_ON_SHEET,
    PNG,
    UNCHANGED,
    IfNoneMatch,
    RendererDep,
    answer_picture,
    answer_unchanged,
    etag_of,
)
from app.http.problem import problems
from app.paging import Page

router = APIRouter(tags=["datasets"])

MAX_SAMPLES = 2000
NPZ = "application/octet-stream"

Name = Annotated[str, Path(min_length=1, max_length=64, examples=["digits"])]


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
                **{f"num_{part}": len(service.indices(split, part)) for part in service.PARTS},
                class_counts={part: images.class_counts(service.indices(split, part)) for part in service.PARTS},
            )
            for split in service.list_splits(session, name)
        ],
    )


PartQuery = Annotated[Literal["train", "val"] | None, Query(description="Of the notebook's split; default: all.")]
LabelQuery = Annotated[int | None, Query(ge=0, le=9)]
AfterQuery = Annotated[int, Query(ge=0, le=10**6, description="Cursor: how many images to leave out.")]


@router.get("/datasets/{name}/samples", summary="Read images", responses=problems(404), dependencies=[InTurn])
def list_samples(
    name: Name,
    session: ReadSession,
    split: PartQuery = None,
    label: LabelQuery = None,
    limit: Annotated[int, Query(ge=1, le=MAX_SAMPLES)] = 12,
    after: AfterQuery = 0,
) -> Page[Sample]:
    """Images with their labels, in the order of the split, or of the dataset."""
    images = service.get_images(session, name)
    found = service.select(session, name, images, split, label)
    page = found[after : after + limit]
    samples = [Sample(index=i, label=images.labels[i], pixels=images.pixels[i].tolist()) for i in page.tolist()]
    return Page.of(samples, str(after + limit) if after + limit < len(found) else None)


@router.get(
    "/datasets/{name}/samples.png", summary="See images", responses=problems(404) | PNG, response_class=Response
)
def draw_samples(
    name: Name,
    database: DatabaseDep,
    renderer: RendererDep,
    split: PartQuery = None,
    label: LabelQuery = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ON_SHEET)] = 12,
    after: AfterQuery = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The same as a sheet; without anything else, `split=train` shows the notebook's first dozen."""
    with database.reading() as session:
        images = service.get_images(session, name)
        found = service.select(session, name, images, split, label)
    etag = etag_of("samples", images.sha256, split, label, limit, after)
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    page = found[after : after + limit].tolist()
    what = " ".join([name, *([split] if split else []), *([f"label {label}"] if label is not None else [])])
    where = f"{after + 1} to {after + len(page)}" if page else "none"
    data = {
        "format": "png",
        "title": f"{what}: images {where} of {len(found)}",
        "note": "label, and number in the dataset",
        "images": [{"pixels": images.pixels[i].tolist(), "caption": f"{images.labels[i]}\n#{i}"} for i in page],
    }
    return answer_picture(renderer, Picture.DIGITS, data, etag)


@router.get(
    "/datasets/{name}/data.npz",
    summary="Download a dataset",
    responses=problems(404) | {200: {"content": {NPZ: {"schema": {"type": "string", "format": "binary"}}}}} | UNCHANGED,
    response_class=Response,
    dependencies=[InTurn],
)
def download_dataset(name: Name, session: ReadSession, if_none_match: IfNoneMatch = None) -> Response:
    """All of it for numpy: `pixels` (N × 8 × 8), `labels` (N), and the indices of the notebook's `train` and `val`."""
    images = service.get_images(session, name)
    etag = f'"{images.sha256}"'
    if (known := answer_unchanged(etag, if_none_match)) is not None:
        return known
    train, val = (service.canonical_indices(session, name, part) for part in ("train", "val"))
    file = io.BytesIO()
    np.savez_compressed(file, pixels=images.pixels, labels=images.labels, train=train, val=val)
    headers = {"ETag": etag, "Content-Disposition": f'attachment; filename="{name}.npz"'}
    return Response(file.getvalue(), media_type=NPZ, headers=headers)
