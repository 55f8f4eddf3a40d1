"""What a launch of `train.cu` is told: the job of a stack, and where what lies in a block's shared memory.

Shape letters: L layers, N samples of the train split; B rows of a forward pass, D inputs and H outputs of a layer, T
hidden units of all layers together, all padded.
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
EVALUATED_ROWS = (64, 32, 16)  # at a time, the preferred number first; a chunk's rows if those are more
MAX_IMAGES = 2**16  # rows of images are kept in 16 bits
# Of a multiprocessor: registers, and shared memory that is taken for each block; "CUDA C++ Programming Guide", 16.7.3
REGISTERS = 65_536
RESERVED_BYTES = 1024
MAX_REGISTERS = 128  # of a thread: 4 blocks of 128 threads, or one of 512, on a multiprocessor
MAX_THREADS = REGISTERS // MAX_REGISTERS
BUSY_SHARE = 0.5  # of a block's threads, which a product's tiles should keep busy


class DoesNotFit(Exception):
    """The network is too large for the shared memory of a block."""


class Layer(ctypes.Structure):
    """See network.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("inputs", "outputs", "start", "weights_at", "first_at", "second_at")),
        *((name, ctypes.c_int) for name in ("values_at", "dropped_at", "deltas_at", "first_unit")),
        *((name, ctypes.c_int) for name in ("forward_columns", "evaluated_columns", "back_columns")),
        *((name, ctypes.c_uint32) for name in ("forward_inverse", "evaluated_inverse", "back_inverse")),
        ("gradient_inverse", ctypes.c_uint32),
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
        *((name, ctypes.c_double) for name in ("lowest", "highest", "share", "last_share")),
        *((name, ctypes.c_int) for name in NUMBERS),
        ("layers", Layer * (MAX_LAYERS + 1)),
    ]


class Limits(NamedTuple):
    """What a device has: shared memory in bytes, and multiprocessors."""

    block_bytes: int  # that a block may have, beyond what the kernel itself takes
    multiprocessor_bytes: int
    num_multiprocessors: int
    kernel_bytes: int  # that the kernel itself takes, in each block


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
    num_images: int,
    has_dropout: bool,
    threads: int | None = None,
    state_in_shared: bool | None = None,
    evaluated_rows: int | None = None,
) -> Plan:
    """Plan a stack's launches. None of the choices changes a run's bits, except through `shape`.

    Of the plans that fit, the one is chosen that computes most of the runs at once. Ties go to the optimizer's state in
    shared memory, then to more samples that are evaluated at a time.

    Args:
        shape: The stack's shape.
        number_bytes: 4 for float32, 8 for float64.
        limits: The device's limits.
        num_runs: How many blocks are launched at once.
        num_images: Images of all the stack's datasets.
        has_dropout: Whether a run of the stack has dropout.
        threads: Threads of a block: a multiple of 32, `SUM_THREADS` to `MAX_THREADS`; None: chosen.
        state_in_shared: Whether the optimizer's state is kept in shared memory; None: chosen.
        evaluated_rows: Samples that are evaluated at a time, a multiple of `TILE`, at most `SUM_THREADS`; None: chosen.

    Raises:
        DoesNotFit: The network, or its data.
        ValueError: `threads` or `evaluated_rows` is none of the numbers above.
    """
    sizes = shape.layout.sizes
    if len(sizes) - 1 > MAX_LAYERS:
        raise DoesNotFit(f"{len(sizes) - 1} layers, of at most {MAX_LAYERS}")
    if num_images > MAX_IMAGES:
        raise DoesNotFit(f"{num_images} images, of at most {MAX_IMAGES}")
    threads = threads or _choose_threads(sizes, is_alone=num_runs <= limits.num_multiprocessors)
    if threads % 32 or not SUM_THREADS <= threads <= MAX_THREADS:
        raise ValueError(f"a block cannot have {threads} threads")
    if evaluated_rows is not None and (evaluated_rows % TILE or not 0 < evaluated_rows <= SUM_THREADS):
        raise ValueError(f"{evaluated_rows} samples cannot be evaluated at a time")
    plans = [
        _place(shape, number_bytes, threads, rows, has_dropout=has_dropout, with_state=with_state)
        for with_state in ((True, False) if state_in_shared is None else (state_in_shared,))
        for rows in (EVALUATED_ROWS if evaluated_rows is None else (evaluated_rows,))
    ]
    fitting = [plan for plan in plans if plan.shared_bytes <= limits.block_bytes]
    if not fitting:
        needed, given = min(plan.shared_bytes for plan in plans) // 1024, limits.block_bytes // 1024
        raise DoesNotFit(f"{needed} KiB of shared memory, of at most {given} KiB")
    needed = -(-num_runs // limits.num_multiprocessors)  # blocks of a multiprocessor, if all runs are computed at once
    return max(fitting, key=lambda plan: min(needed, _blocks_at_once(plan, limits)))  # the first of the largest


def _blocks_at_once(plan: Plan, limits: Limits) -> int:
    """How many blocks a multiprocessor computes at once, at most."""
    by_memory = limits.multiprocessor_bytes // (plan.shared_bytes + limits.kernel_bytes + RESERVED_BYTES)
    return min(by_memory, REGISTERS // (MAX_REGISTERS * plan.threads))


def chunk_rows(batch_size: int) -> int:
    """Rows of a batch that are trained on at a time; a run's bits depend on it, so it depends on the batch alone.

    A larger batch is cut as evenly as possible, into multiples of 8: dropout is drawn for 8 samples at a time.
    """
    if batch_size <= MAX_CHUNK:
        return _round_up(batch_size, TILE)
    num_chunks = -(-batch_size // MAX_CHUNK)
    return _round_up(-(-batch_size // num_chunks), 8)


def _choose_threads(sizes: tuple[int, ...], *, is_alone: bool) -> int:
    """How many threads a block has; more where each block has a multiprocessor for itself. See docs/benchmarks.md."""
    num_products = sum(inputs * outputs for inputs, outputs in pairwise(sizes))
    if num_products <= 4096:  # 24-24
        return 256 if is_alone else 128
    return 512 if is_alone or num_products > 10_000 else 256  # 52-52


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


def _place(
    shape: Shape, number_bytes: int, threads: int, evaluated_rows: int, *, has_dropout: bool, with_state: bool
) -> Plan:
    """The plan with or without the optimizer's state in shared memory, whether it fits or not."""
    sizes, num_layers = shape.layout.sizes, len(shape.layout.sizes) - 1
    chunk = chunk_rows(shape.batch_size)
    rows = max(chunk, evaluated_rows)
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
    job.rates_at = arena.take(2 * min(threads, shape.num_steps))
    if with_state:
        for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
            layers[number].first_at = arena.take((inputs + 1) * (outputs + PAD))
            layers[number].second_at = arena.take((inputs + 1) * (outputs + PAD)) if shape.is_adam else 0
    _describe_layers(job, shape, _tile_chooser(chunk, threads), _tile_chooser(rows, threads))
    job.num_layers, job.num_parameters, job.num_units = num_layers, shape.layout.num_parameters, shape.layout.num_hidden
    job.num_train, job.num_val, _ = shape.split_sizes
    job.batch_size, job.chunk, job.evaluated_rows = shape.batch_size, chunk, rows
    job.share = 1 / shape.batch_size
    job.last_share = 1 / (shape.num_train - (shape.num_steps - 1) * shape.batch_size)
    job.is_adam, job.has_dropout, job.state_in_shared = shape.is_adam, has_dropout, with_state
    return Plan(job, threads, arena.end * number_bytes)


def _describe_layers(
    job: Job, shape: Shape, choose_columns: Callable[[int], int], choose_evaluated: Callable[[int], int]
) -> None:
    """Fill in the layers' widths, and how the work on them is cut into tiles."""
    job.layers[0].outputs = shape.layout.sizes[0]
    first_unit = end_item = 0
    for number, (inputs, outputs) in enumerate(pairwise(shape.layout.sizes), start=1):
        layer = job.layers[number]
        layer.inputs, layer.outputs, layer.start = inputs, outputs, shape.layout.starts[number - 1]
        layer.first_unit = first_unit
        first_unit += outputs
        layer.forward_columns, layer.back_columns = choose_columns(outputs), choose_columns(inputs)
        layer.evaluated_columns = choose_evaluated(outputs)
        layer.forward_inverse = _inverse(outputs // layer.forward_columns)
        layer.evaluated_inverse = _inverse(outputs // layer.evaluated_columns)
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
