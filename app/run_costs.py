"""What a run takes: memory in a stack, the runs that it fits together with, and bytes in the database."""

from __future__ import annotations

import math
from itertools import pairwise

from app.datasets.catalog import DATASETS, NUM_CLASSES, NUM_PIXELS
from app.run_config import MAX_COPIES, Ensemble, Mlp, RandomForest, RunConfig

WIDTH_MULTIPLE = 16  # a network's widths are padded to a multiple of this in a stack
# Bytes that a run takes in the database, as measured on SQLite:
RUN_BYTES = 16 * 1024  # its row, its events except metrics, and the empty space in pages
METRIC_BYTES = 180  # one row of metrics, with its share of the events
LAYER_METRIC_BYTES = 40  # the two norms of a layer in such a row, as text
LEAF_BYTES = 240  # one leaf in a forest's saved model
TREE_BYTES_PER_SAMPLE = 24  # one tree, where its depth does not bound it
SNAPSHOT_BYTES = 3 * 1024  # a snapshot's row, its header, and the empty space in its last page


def stack_key(config: RunConfig) -> str | None:
    """The key that all runs of a stack have in common; None for a forest and an ensemble, which train alone."""
    if not isinstance(config.model, Mlp) or config.training is None:
        return None
    sizes = config.split.sizes(DATASETS[config.dataset].num_samples)
    widths = "-".join(map(str, _padded_sizes(config.model)))
    optimizer, batch_size = config.training.optimizer.kind, _batch_size(config)
    key = f"{widths} {optimizer} {batch_size} {sizes.train}+{sizes.val}+{sizes.test} {config.device}"
    return key if config.augmentation is None else f"{key} augmented {config.augmentation.strength:g}"


def stack_bytes(config: RunConfig) -> int:
    """Estimated memory of a run in a stack, in bytes, without `shared_bytes`; 0 for a forest and an ensemble."""
    if not isinstance(config.model, Mlp):
        return 0
    sizes = _padded_sizes(config.model)
    num_parameters = sum(inputs * outputs + outputs for inputs, outputs in pairwise(sizes))
    # An epoch that is drawn in advance holds, for each sample, its place in the order, its one-hot label, and two
    # numbers for each hidden unit if there is dropout; with augmentation, its copy's place.
    sample_bytes = 8 + 4 * NUM_CLASSES + (8 * sum(sizes[1:-1]) if config.model.dropout else 0)
    sample_bytes += 0 if config.augmentation is None else 8
    split_bytes = 8 * DATASETS[config.dataset].num_samples + sample_bytes * config.num_train_samples
    # Five arrays: parameters, gradients, two of the optimizer, best parameters. A batch: forward and backward pass.
    network_bytes = 4 * (5 * num_parameters + 3 * _batch_size(config) * sum(sizes))
    return network_bytes + split_bytes + _snapshots_bytes(config)  # those that are not committed yet: all, at most


def shared_bytes(config: RunConfig) -> int:
    """Memory that the runs of a stack share, in bytes: the bank of warped copies, at its largest.

    Runs with fewer copies may share the stack with one that has more, and a trainer's bank only grows.
    """
    return 0 if config.augmentation is None else MAX_COPIES * NUM_PIXELS * DATASETS[config.dataset].num_samples


def num_fitting(config: RunConfig, num_bytes: int) -> int:
    """The number of networks like this one whose stack takes at most so many bytes; it may be 0."""
    return max(0, (num_bytes - shared_bytes(config)) // stack_bytes(config))


def max_stack_size(config: RunConfig, max_bytes: int) -> int:
    """The number of networks like this one that are trained in a stack of so many bytes, at least one."""
    return max(1, num_fitting(config, max_bytes))


def estimated_bytes(config: RunConfig) -> int:
    """Estimated bytes that a run adds to the database if it trains all its epochs.

    Not counted is an ensemble's saved model, which is as large as those of its members together.
    """
    sizes = config.split.sizes(DATASETS[config.dataset].num_samples)
    probabilities_bytes = 4 * NUM_CLASSES * (sizes.val + sizes.test)
    num_metrics = 2 + config.epochs // config.evaluate_every
    if isinstance(config.model, RandomForest):
        nodes_bytes = min(LEAF_BYTES << config.model.max_depth, TREE_BYTES_PER_SAMPLE * sizes.train)
        return RUN_BYTES + probabilities_bytes + num_metrics * METRIC_BYTES + config.epochs * nodes_bytes
    if isinstance(config.model, Ensemble):
        return RUN_BYTES + probabilities_bytes + METRIC_BYTES
    assert config.training is not None, "validated: an mlp has training"
    metrics_bytes = num_metrics * (METRIC_BYTES + LAYER_METRIC_BYTES * (len(config.model.hidden_sizes) + 1))
    # Copies of the parameters: the saved model, the checkpoints `best` and `last`, the optimizer's state in `last`.
    num_copies = 3 + (1 if config.training.optimizer.kind == "sgd" else 2)
    parameters_bytes = 4 * num_copies * config.model.num_parameters + _snapshots_bytes(config)
    return RUN_BYTES + probabilities_bytes + metrics_bytes + parameters_bytes


def _snapshots_bytes(config: RunConfig) -> int:
    """Bytes of all snapshots: parameters, and a digit with its confidence for each image of val."""
    if not isinstance(config.model, Mlp) or config.training is None:
        return 0
    num_val = config.split.sizes(DATASETS[config.dataset].num_samples).val
    return config.training.snapshots * (SNAPSHOT_BYTES + 4 * config.model.num_parameters + 5 * num_val)


def _padded_sizes(model: Mlp) -> list[int]:
    sizes = [NUM_PIXELS, *model.hidden_sizes, NUM_CLASSES]
    return [math.ceil(size / WIDTH_MULTIPLE) * WIDTH_MULTIPLE for size in sizes]


def _batch_size(config: RunConfig) -> int:
    assert config.training is not None
    return config.training.images_a_step(config.num_train_samples)
