"""What a launch of `train.cu` is told: the job of a stack, and where what lies in a block's shared memory.

Shape letters: L layers, N samples of the train split; B rows of a chunk, D inputs and H outputs of a layer, T hidden
units of all layers together, all padded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from workers.training.stack import Shape

# As in network.cuh and draws.cuh
MAX_LAYERS = 9
PAD = 4
TILE = 4
SUM_THREADS = 64
BUCKETS = 1024

MAX_CHUNK = 32  # rows of a batch that are trained on at a time
MIN_EVALUATED_ROWS = 16
MAX_SAMPLES = 2**16 - 1  # of the train split: its order is kept in 16 bits
RESERVED_BYTES = 1024  # of a multiprocessor's shared memory, for each block; "CUDA C++ Programming Guide", 16.7.3
BUSY_SHARE = 0.6  # of a block's threads, which a product's tiles should keep busy


class DoesNotFit(Exception):
    """The network is too large for the shared memory of a block."""


class Layer(ctypes.Structure):
    """See network.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("inputs", "outputs", "start", "weights_at", "first_at", "second_at")),
        *((name, ctypes.c_int) for name in ("values_at", "dropped_at", "deltas_at", "first_unit")),
        *((name, ctypes.c_int) for name in ("forward_columns", "back_columns")),
        *((name, ctypes.c_uint32) for name in ("forward_inverse", "back_inverse", "gradient_inverse")),
        ("end_item", ctypes.c_int),
    ]


# Addresses on the device; the names of `Stack`'s fields where they are the same.
POINTERS = (
    *("parameters", "gradients", "first", "second", "best", "settings", "seeds"),
    *("activations", "thresholds", "copies", "first_rows", "scales", "widths", "train", "val", "images", "labels"),
    *("bank", "slots", "dues", "decisions", "metrics", "ends", "samples", "row", "logits", "cycles"),
)
NUMBERS = (
    *("num_blocks", "num_layers", "num_parameters", "num_units", "num_train", "num_val", "num_samples"),
    *("batch_size", "chunk", "evaluated_rows", "is_adam", "has_dropout", "state_in_shared", "bank_images"),
    *("first_epoch", "num_epochs", "images_step"),
    *("masks_at", "labels_at", "order_at", "copies_at", "rates_at", "scratch_at"),
)


class Job(ctypes.Structure):
    """See network.cuh."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in POINTERS),
        *((name, ctypes.c_double) for name in ("lowest", "highest")),
        *((name, ctypes.c_int) for name in NUMBERS),
        ("layers", Layer * (MAX_LAYERS + 1)),
    ]


class Limits(NamedTuple):
    """What a device has, in bytes."""

    block_bytes: int  # of shared memory that a block may have, beyond what the kernel itself takes
    multiprocessor_bytes: int  # of shared memory
    num_multiprocessors: int


@dataclass(frozen=True)
class Plan:
    """A job whose shape and places are filled in, and how it is launched."""

    job: Job
    threads: int  # of a block
    shared_bytes: int  # of a block


def make_plan(
    shape: Shape,
    number_bytes: int,
    limits: Limits,
    *,
    num_runs: int,
    has_dropout: bool,
    threads: int | None = None,
    state_in_shared: bool | None = None,
) -> Plan:
    """Plan a stack's launches. None of the choices changes a run's bits, except through `shape`.

    Args:
        shape: Of the stack.
        number_bytes: 4 for float32, 8 for float64.
        limits: Of the device.
        num_runs: How many blocks are launched at once.
        has_dropout: Whether a run of the stack has dropout.
        threads: Of a block, a multiple of 32, `SUM_THREADS` or more; None: chosen by the network's size.
        state_in_shared: Whether the optimizer's state is kept in shared memory; None: where that leaves enough blocks.

    Raises:
        DoesNotFit: The network, or its data.
    """
    sizes = shape.layout.sizes
    if len(sizes) - 1 > MAX_LAYERS:
        raise DoesNotFit(f"{len(sizes) - 1} layers, of at most {MAX_LAYERS}")
    if shape.num_train > MAX_SAMPLES:
        raise DoesNotFit(f"{shape.num_train} samples to train on, of at most {MAX_SAMPLES}")
    threads = threads or _choose_threads(sizes)

    def planned(*, with_state: bool) -> Plan:
        return _place(shape, number_bytes, threads, has_dropout=has_dropout, with_state=with_state)

    plans = {with_state: planned(with_state=with_state) for with_state in (False, True)}
    if state_in_shared is None:
        state_in_shared = _prefers_state_in_shared(plans, limits, num_runs)
    plan = plans[state_in_shared]
    if plan.shared_bytes > limits.block_bytes:
        needed, given = plan.shared_bytes // 1024, limits.block_bytes // 1024
        raise DoesNotFit(f"{needed} KiB of shared memory, of at most {given} KiB")
    return plan


def _prefers_state_in_shared(plans: dict[bool, Plan], limits: Limits, num_runs: int) -> bool:
    """Whether the state fits beside the weights, and as many of the runs are computed at once as without it."""
    if plans[True].shared_bytes > limits.block_bytes:
        return False
    needed = -(-num_runs // limits.num_multiprocessors)  # blocks of a multiprocessor, if all runs are computed at once
    blocks = {
        with_state: min(needed, limits.multiprocessor_bytes // (plan.shared_bytes + RESERVED_BYTES))
        for with_state, plan in plans.items()
    }
    return blocks[True] >= blocks[False]


def chunk_rows(batch_size: int) -> int:
    """Rows of a batch that are trained on at a time; a run's bits depend on it, so it depends on the batch alone.

    A larger batch is cut as evenly as possible, into multiples of 8: dropout is drawn for 8 samples at a time.
    """
    if batch_size <= MAX_CHUNK:
        return _round_up(batch_size, TILE)
    num_chunks = -(-batch_size // MAX_CHUNK)
    return _round_up(-(-batch_size // num_chunks), 8)


def _choose_threads(sizes: tuple[int, ...]) -> int:
    num_products = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    if num_products <= 4096:  # 24-24
        return 128
    return 256 if num_products <= 20_000 else 512  # 128-64


class _Arena:
    """Hands out places in shared memory, in numbers; each begins at a multiple of 16 bytes."""

    def __init__(self, number_bytes: int) -> None:
        self.end = 0
        self._number_bytes = number_bytes

    def take(self, numbers: int) -> int:
        place = self.end
        self.end += _round_up(numbers, 4)
        return place

    def take_bytes(self, count: int) -> int:
        return self.take(-(-count // self._number_bytes))


def _place(shape: Shape, number_bytes: int, threads: int, *, has_dropout: bool, with_state: bool) -> Plan:
    """The plan with or without the optimizer's state in shared memory, whether it fits or not."""
    sizes, num_layers = shape.layout.sizes, len(shape.layout.sizes) - 1
    chunk = chunk_rows(shape.batch_size)
    rows = max(chunk, MIN_EVALUATED_ROWS)
    job, arena = Job(), _Arena(number_bytes)
    layers = job.layers
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layers[number].weights_at = arena.take((inputs + 1) * (outputs + PAD))
    # Between steps, the scratch memory lies where values and deltas are.
    job.scratch_at = arena.end
    job.images_step = _round_up(rows * (sizes[0] + PAD), 4)
    layers[0].values_at = arena.take(2 * job.images_step)
    for number in range(1, num_layers):
        layers[number].values_at = arena.take(rows * (sizes[number] + PAD))
        layers[number].dropped_at = arena.take(rows * (sizes[number] + PAD)) if has_dropout else 0
    for number in range(1, num_layers + 1):
        layers[number].deltas_at = arena.take(rows * (sizes[number] + PAD))
    scratch_bytes = max(2, 2 * num_layers) * SUM_THREADS * 8
    if shape.batch_size < shape.num_train:  # words, buckets and sums of `draw_order`
        scratch_bytes = max(scratch_bytes, 4 * (shape.num_train + 3 + BUCKETS + threads))
    arena.end = max(arena.end, job.scratch_at + _round_up(-(-scratch_bytes // number_bytes), 4))
    job.order_at = arena.take_bytes(2 * shape.num_train)
    job.copies_at = arena.take_bytes(2 * shape.num_train) if shape.strength is not None else 0
    job.masks_at = arena.take_bytes(-(-chunk // 8) * shape.layout.num_hidden) if has_dropout else 0
    job.labels_at = arena.take_bytes(2 * rows * 4)
    job.rates_at = arena.take(2 * threads)
    if with_state:
        for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            layers[number].first_at = arena.take((inputs + 1) * (outputs + PAD))
            layers[number].second_at = arena.take((inputs + 1) * (outputs + PAD)) if shape.is_adam else 0
    _describe_layers(job, shape, _tile_chooser(chunk, threads))
    job.num_layers, job.num_parameters, job.num_units = num_layers, shape.layout.num_parameters, shape.layout.num_hidden
    job.num_train, job.num_val, _ = shape.split_sizes
    job.batch_size, job.chunk, job.evaluated_rows = shape.batch_size, chunk, rows
    job.is_adam, job.has_dropout, job.state_in_shared = shape.is_adam, has_dropout, with_state
    return Plan(job, threads, arena.end * number_bytes)


def _describe_layers(job: Job, shape: Shape, choose_columns: Callable[[int], int]) -> None:
    """Fill in the layers' widths, and how the work on them is cut into tiles."""
    job.layers[0].outputs = shape.layout.sizes[0]
    first_unit = end_item = 0
    for number, (inputs, outputs) in enumerate(pairwise(shape.layout.sizes), start=1):
        layer = job.layers[number]
        layer.inputs, layer.outputs, layer.start = inputs, outputs, shape.layout.starts[number - 1]
        layer.first_unit = first_unit
        first_unit += outputs
        layer.forward_columns, layer.back_columns = choose_columns(outputs), choose_columns(inputs)
        layer.forward_inverse = _inverse(outputs // layer.forward_columns)
        layer.back_inverse = _inverse(inputs // layer.back_columns)
        layer.gradient_inverse = _inverse(outputs // 4)
        end_item += (inputs // TILE + 1) * (outputs // 4)  # the last line of tiles is the biases'
        layer.end_item = end_item


def _tile_chooser(rows: int, threads: int) -> Callable[[int], int]:
    """Choose the columns of a thread's tile of a product that is so wide: the most that keep the threads busy."""

    def choose(width: int) -> int:
        lines = -(-rows // TILE)
        return next((columns for columns in (4, 2) if lines * width // columns >= BUSY_SHARE * threads), 1)

    return choose


def _inverse(divisor: int) -> int:
    """For `quotient` in network.cuh: 2^32 / divisor, rounded up."""
    return -(-(2**32) // divisor)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
