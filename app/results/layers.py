"""A network's layers: their shapes, sizes and norms, as JSON and as a table for a terminal; an ensemble's members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from app.datasets.catalog import NUM_CLASSES, NUM_PIXELS
from app.results.schemas import Layer, LayerWeights, Summary
from app.run_config import Ensemble, Mlp, RandomForest, RunConfig
from app.tables import Run, RunStatus
from app.wording import count

BYTES_PER_PARAMETER = 4
LAYER_HEADERS = ("Layer-Shape", "Layer-Epoch")  # of a layer's weights as bytes
_DIVISORS = {"byte": "pixels / 255", "unit": "pixels / 16"}


def list_layers(
    config: RunConfig, weight_norms: Sequence[float] | None, gradient_norms: Sequence[float] | None
) -> list[Layer]:
    """List a model's layers in order, from pixels to probabilities.

    Args:
        config: The configuration of a network or a forest.
        weight_norms: One for each linear layer; None before the first evaluation.
        gradient_norms: One for each linear layer; None before the first evaluation.
    """
    if isinstance(config.model, RandomForest):
        note = f"{count(config.model.n_estimators, 'tree')}, at most {config.model.max_depth} deep"
        return [_layer("forest", "random_forest", NUM_PIXELS, NUM_CLASSES, note=note)]
    assert isinstance(config.model, Mlp)
    layers = [_layer("scale", "scale", NUM_PIXELS, NUM_PIXELS, note=_DIVISORS[config.scaling or "byte"])]
    sizes = [NUM_PIXELS, *config.model.hidden_sizes, NUM_CLASSES]
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers.append(
            Layer(
                name=f"linear{number}",
                kind="linear",
                input_shape=[inputs],
                output_shape=[outputs],
                num_parameters=inputs * outputs + outputs,
                weight_norm=None if weight_norms is None else weight_norms[number - 1],
                gradient_norm=None if gradient_norms is None else gradient_norms[number - 1],
                note="",
            )
        )
        if number == len(sizes) - 1:
            layers.append(_layer("softmax", "softmax", outputs, outputs))
            continue
        layers.append(_layer(f"{config.model.activation}{number}", config.model.activation, outputs, outputs))
        if config.model.dropout:
            note = f"rate {config.model.dropout:g}, in training only"
            layers.append(_layer(f"dropout{number}", "dropout", outputs, outputs, note=note))
    return layers


def list_members(ensemble: Ensemble, runs: Mapping[str, Run]) -> list[Layer]:
    """List an ensemble's members and their mean.

    Args:
        ensemble: The ensemble's configuration.
        runs: The members' runs by id; those that have been deleted since are left out, and their sizes are not shown.
    """
    layers = []
    for number, run_id in enumerate(ensemble.members, start=1):
        run = runs.get(run_id)
        note = f"run {run_id}, deleted" if run is None else f"run {run_id}"
        size = 0 if run is None else run.num_parameters or 0
        layers.append(_layer(f"member{number}", "member", NUM_PIXELS, NUM_CLASSES, note=note, num_parameters=size))
    return [*layers, _layer("mean", "mean", NUM_CLASSES, NUM_CLASSES, note="of the members' probabilities")]


def _layer(
    name: str,
    kind: Literal["scale", "sigmoid", "tanh", "relu", "dropout", "softmax", "random_forest", "member", "mean"],
    inputs: int,
    outputs: int,
    note: str = "",
    num_parameters: int = 0,
) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        input_shape=[inputs],
        output_shape=[outputs],
        num_parameters=num_parameters,
        weight_norm=None,
        gradient_norm=None,
        note=note,
    )


def to_bytes(layer: LayerWeights) -> bytes:
    """Return a layer's weights, row by row, and then its biases, as little-endian float32."""
    arrays = (np.asarray(values, "<f4") for values in (layer.weights, layer.biases))
    return b"".join(array.tobytes() for array in arrays)


def to_text(summary: Summary) -> str:
    """Format a summary as a text table, as Keras prints it."""
    header = ("layer", "input", "output", "parameters", "weight norm", "gradient norm", "")
    rows = [
        (
            layer.name,
            _shape(layer.input_shape),
            _shape(layer.output_shape),
            f"{layer.num_parameters:,}" if layer.num_parameters else "",
            "" if layer.weight_norm is None else f"{layer.weight_norm:.4f}",
            "" if layer.gradient_norm is None else f"{layer.gradient_norm:.2e}",
            layer.note,
        )
        for layer in summary.layers
    ]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, tuple("-" * width for width in widths), *rows)
    ]
    is_over = RunStatus(summary.status).is_finished()
    unknown, nothing = "not known yet", "no epoch has been evaluated yet"
    if is_over:
        unknown, nothing = "not known", "no epoch was evaluated"
    total = unknown if summary.num_parameters is None else f"{summary.num_parameters:,}"
    size = "" if summary.size_bytes is None else f", {count(summary.size_bytes, 'byte')}"
    when = nothing if summary.epoch is None else f"epoch {summary.epoch}"
    hint = [] if summary.hint is None else [summary.hint]
    return "\n".join(
        [f"run {summary.run_id}, {summary.status}: {when}", *hint, "", *lines, "", f"parameters: {total}{size}", ""]
    )


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
