"""A run's snapshots: its network's weights and its predictions on val at some epochs, as the trainer has kept them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from app import blobs
from app.datasets import repository as datasets
from app.datasets import service as dataset_service
from app.results.service import require_network
from app.run_config import RunConfig
from app.tables import Run, Snapshot, Split

Arrays = dict[str, npt.NDArray[Any]]


def fingerprint(session: Session, run: Run, *, after: int) -> list[Any]:
    """Return values that differ whenever the run's snapshots after an epoch do, or their images of val.

    Raises:
        Conflict: The run is a forest.
    """
    require_network(run)
    query = select(Snapshot.epoch, Snapshot.sha256).where(Snapshot.run_id == run.id, Snapshot.epoch > after)
    versions = [(epoch, digest) for epoch, digest in session.execute(query.order_by(Snapshot.epoch))]
    return [run.id, after, _find_split(session, run) is not None, versions]


def read(session: Session, run: Run, *, after: int) -> dict[str, Any]:
    """Return the run's snapshots after an epoch as a `SnapshotPage`, whose numbers are numpy's: there may be millions.

    Raises:
        DamagedData: A snapshot, or the dataset, does not match its sha256.
    """
    images, labels = _read_val(session, run)
    query = select(Snapshot).where(Snapshot.run_id == run.id, Snapshot.epoch > after).order_by(Snapshot.epoch)
    found = session.scalars(query.options(undefer(Snapshot.blob)))
    data = [_view(row) for row in found]
    return {"run_id": run.id, "images": images, "labels": labels, "data": data, "has_more": False, "next": None}


def _read_val(session: Session, run: Run) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Return the images of the run's val and their digits; none before a worker has made the split."""
    split = _find_split(session, run)
    if split is None:
        return np.empty(0, np.int32), np.empty(0, np.uint8)
    indices = dataset_service.indices(split, "val")
    return indices, np.ascontiguousarray(dataset_service.get_images(session, split.dataset).labels[indices])


def _find_split(session: Session, run: Run) -> Split | None:
    config = RunConfig.model_validate(run.config)
    return datasets.get_split(session, config.dataset, **config.split.columns)


def _view(row: Snapshot) -> dict[str, Any]:
    what = f"The snapshot of epoch {row.epoch} of run {row.run_id}"
    arrays: Arrays = safetensors.numpy.load(blobs.checked(row.blob, row.sha256, what))
    num_layers = sum(name.startswith("weights") for name in arrays)
    layers = [
        {"weights": arrays[f"weights{number}"], "biases": arrays[f"biases{number}"]}
        for number in range(1, num_layers + 1)
    ]
    digits, confidences = arrays["val_digits"], arrays["val_confidences"]
    return {"epoch": row.epoch, "layers": layers, "digits": digits, "confidences": confidences}
