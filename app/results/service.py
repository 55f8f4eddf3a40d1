"""A run's layers, weights, predictions on val and curves, and the errors to raise while these do not exist yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from sqlalchemy.orm import Session

from app import blobs
from app.datasets import repository as datasets
from app.datasets import service as dataset_service
from app.datasets.catalog import NUM_CLASSES, NUM_PIXELS
from app.errors import Conflict, DamagedData, FieldError, NotFound
from app.paging import cut, decode_cursor, encode_cursor
from app.parameter_names import parameter_names
from app.results import repository
from app.results.evaluations import Evaluated
from app.results.layers import BYTES_PER_PARAMETER, list_layers, list_members
from app.results.schemas import LayerWeights, Summary
from app.run_config import Ensemble, RunConfig
from app.runs import repository as run_repository
from app.runs import service as runs
from app.sweeps import service as sweeps
from app.tables import Run, RunStatus
from app.validation import invalid_input
from app.wording import as_json, count

MAX_RUNS = 12  # runs in one picture
MAX_NUMBERS = 500_000  # in one page of series

_MORE_TO_COME = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED)


def summarize(session: Session, run: Run) -> Summary:
    """Return the run's layers, with the norms of its newest evaluated epoch; of an ensemble, its members."""
    metric = repository.newest_metric(session, run.id)
    config = RunConfig.model_validate(run.config)
    weight_norms, gradient_norms = (metric.weight_norms, metric.gradient_norms) if metric else (None, None)
    if isinstance(config.model, Ensemble):
        layers = list_members(config.model, run_repository.get_all(session, config.model.members))
    else:
        layers = list_layers(config, weight_norms, gradient_norms)
    is_forest = run.model_kind == "random_forest"
    return Summary(
        run_id=run.id,
        status=run.status.value,
        epoch=metric.epoch if metric else None,
        layers=layers,
        num_parameters=run.num_parameters,
        size_bytes=None if is_forest or run.num_parameters is None else BYTES_PER_PARAMETER * run.num_parameters,
    )


def get_layer(session: Session, run: Run, layer: int, role: Literal["best", "last"]) -> LayerWeights:
    """Return a layer's weights and biases at a checkpoint.

    Raises:
        Conflict: The run is a forest or an ensemble.
        NotFound: There is no such layer, or no such checkpoint (yet).
        DamagedData: The checkpoint does not match its sha256.
    """
    epoch, arrays = _read_network(session, run, role)
    num_layers = sum(name.startswith("weights") for name in arrays)
    if layer > num_layers:
        detail = f"Run {run.id} has linear layers 1 to {num_layers}; there is no layer {layer}."
        raise NotFound(detail, slug="layer-not-found")
    return LayerWeights(
        run_id=run.id,
        layer=layer,
        num_layers=num_layers,
        role=role,
        epoch=epoch,
        weights=arrays[f"weights{layer}"].tolist(),
        biases=arrays[f"biases{layer}"].tolist(),
    )


def _read_network(
    session: Session, run: Run, role: Literal["best", "last"]
) -> tuple[int, dict[str, npt.NDArray[np.floating]]]:
    require_network(run)
    if run.best_epoch is None:
        raise _missing(run, "weights", "its first checkpoint has been committed")
    checkpoint = runs.get_checkpoint(session, run, role)
    return checkpoint.epoch, safetensors.numpy.load(checkpoint.blob)


def require_network(run: Run) -> None:
    """Check that a run's model is a network, whose layers have weights.

    Raises:
        Conflict: The run is a forest or an ensemble.
    """
    if run.model_kind == "random_forest":
        raise Conflict("The run is a random forest: it has trees, no weights and no gradients.", slug="no-weights")
    if run.model_kind == "ensemble":
        members = ", ".join(run.config["model"]["members"])
        detail = f"The run is an ensemble: its members have weights and gradients, the runs {members}."
        raise Conflict(detail, slug="no-weights")


def name_layers(run: Run) -> list[str]:
    """Return a label for each linear layer of a network, such as `layer 1: 64 → 24`."""
    sizes = [NUM_PIXELS, *run.config["model"]["hidden_sizes"], NUM_CLASSES]
    return [f"layer {number}: {inputs} → {outputs}" for number, (inputs, outputs) in enumerate(pairwise(sizes), 1)]


def evaluate(session: Session, run: Run) -> Evaluated:
    """Return the predictions of the run's saved model on val.

    Raises:
        NotFound: The run has no saved model (yet).
        DamagedData: The stored probabilities do not match their sha256, or the split is gone.
    """
    row = repository.get_evaluation(session, run.id, "val")
    if row is None:
        raise _missing(run, "saved model", "it has succeeded")
    blobs.checked(row.probabilities, row.sha256, f"The evaluation of run {run.id}")
    config = RunConfig.model_validate(run.config)
    images = dataset_service.get_images(session, config.dataset)
    split = datasets.get_split(session, config.dataset, **config.split.columns)
    if split is None:
        raise DamagedData(f"The split of run {run.id} is gone.")
    indices = dataset_service.indices(split, "val")
    probabilities = np.frombuffer(row.probabilities, np.float32).reshape(-1, NUM_CLASSES)
    return Evaluated(indices, images.pixels[indices], images.labels[indices], probabilities)


def evaluate_against(session: Session, run: Run, other: Run) -> Evaluated:
    """Return the predictions of another run's saved model on the same images.

    Raises:
        Conflict: The other run has another dataset or split.
        NotFound: The other run has no saved model (yet).
    """
    mine, theirs = RunConfig.model_validate(run.config), RunConfig.model_validate(other.config)
    if (mine.dataset, mine.split) != (theirs.dataset, theirs.split):
        detail = f"Run {other.id} has another split than run {run.id}: their mistakes are not on the same images."
        raise Conflict(detail, slug="different-split")
    return evaluate(session, other)


def _missing(run: Run, what: str, when: str) -> NotFound:
    """Explain why a run has no weights or saved model, and when it will have them."""
    if run.status in _MORE_TO_COME:
        where = f"is {run.status.value}, at epoch {run.epoch} of {run.epochs}"
        detail = f"Run {run.id} {where}: it has no {what} yet. That will be there when {when}."
    else:
        reason = f" ({run.error_code}: {run.error_detail})" if run.error_code else ""
        detail = f"Run {run.id} has {_ENDED[run.status]}{reason}: it has no {what}, and will have none."
    return NotFound(detail, slug=f"{what.replace(' ', '-')}-not-found")


_ENDED = {RunStatus.SUCCEEDED: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "been cancelled"}


def curves(session: Session, found: Sequence[Run]) -> list[dict[str, Any]]:
    """Return these runs' metrics by epoch, each with a label that distinguishes it from the others."""
    labels = distinguishing_labels(found)
    return [
        {
            "id": run.id,
            "name": run.name,
            "status": run.status.value,
            "label": label,
            "epoch": run.epoch,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
            "metrics": repository.read_columns(session, run.id),
        }
        for run, label in zip(found, labels, strict=True)
    ]


def list_series(
    session: Session,
    *,
    run_ids: Collection[str],
    sweep_id: str | None,
    columns: Sequence[str],
    points: int,
    limit: int,
    after: str | None,
) -> tuple[list[dict[str, Any]], str | None]:
    """Return the thinned metrics of many runs, oldest run first, and the cursor of the next page or None.

    Args:
        session: Reads runs and metrics.
        run_ids: The runs; those that do not exist are left out.
        sweep_id: In place of `run_ids`: the runs of this sweep.
        columns: Names of metrics, without repetition.
        points: How many epochs of each run, about.
        limit: The most runs of the page; where they would come to more than `MAX_NUMBERS` numbers, they are fewer.
        after: Cursor of the page before.

    Raises:
        InvalidInput: Not exactly one of `run_ids` and `sweep_id` is given, or the cursor is of another list.
        NotFound: There is no such sweep.
    """
    if bool(run_ids) == (sweep_id is not None):
        raise invalid_input([FieldError("?run_id", "Send either run_id or sweep_id")])
    if sweep_id is not None:
        sweeps.get_sweep(session, sweep_id)
    which = Run.id.in_(run_ids) if sweep_id is None else Run.sweep_id == sweep_id
    limit = min(limit, MAX_NUMBERS // (points * (1 + len(columns))))
    last = None if after is None else decode_cursor(after, str)[0]
    found, cursor = cut(
        repository.list_run_ids(session, which, limit=limit + 1, after=last),
        limit,
        lambda run_id: encode_cursor(run_id),
    )
    return list(repository.read_series(session, found, columns, points).values()), cursor


def distinguishing_labels(found: Sequence[Run]) -> list[str]:
    """Label each run by the values of its configuration that differ between the runs.

    If labels repeat, each gets the end of its run's id, or the whole id if the label is empty. If all names are set and
    distinct, they precede the labels.
    """
    flat = [_flatten(run.config) for run in found]
    paths = list(dict.fromkeys(path for each in flat for path in each))
    differing = [path for path in paths if len({repr(each.get(path)) for each in flat}) > 1]
    names_of = parameter_names(differing)
    labels = [", ".join(f"{names_of[path]} {_show(each[path])}" for path in differing if path in each) for each in flat]
    if len(set(labels)) < len(labels):
        labels = [f"{label}; {run.id[-6:]}" if label else run.id for label, run in zip(labels, found, strict=True)]
    names = {run.name for run in found}
    if len(names) == len(found) > 1 and "" not in names:
        return [f"{run.name}: {label}" for run, label in zip(found, labels, strict=True)]
    return labels


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        path = f"{prefix}{name}"
        flat |= _flatten(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def _show(value: Any) -> str:
    if isinstance(value, list) and any(isinstance(each, str) for each in value):
        return count(len(value), "run")  # an ensemble's members: their ids would fill a picture
    if isinstance(value, list):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else as_json(value)
