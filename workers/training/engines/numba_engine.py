"""The engine for CPUs: one call of code that Numba compiled trains a run for an epoch, without Python and its lock.

Each run is trained by itself, in memory that fits a core's cache, and as many runs at once as there are cores. Runs
share no sums, so a run's bits cannot depend on its stack. `kernels.py` has the arithmetic, `draws.py` the random
numbers.

Shape letters: R runs in the stack, L layers, P parameters of a network, N samples of a split, M images of all
datasets, D = 64 pixels, B rows of a batch, padded to a multiple of 4; H outputs of a layer and T hidden units of all
layers together, both padded; C = 10 classes, padded to 16 (COLUMNS).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from workers.training.config import NUM_CLASSES
from workers.training.device import available_cores
from workers.training.engines.compilation import Array, compiled
from workers.training.engines.draws import draw_copies, draw_dropout, draw_order
from workers.training.engines.kernels import (
    KEEP_SCALE,
    exp,
    forward,
    layer_gradient,
    load_batch,
    load_copies,
    multiply,
    multiply_by_derivative,
    propagate_back,
    softmax,
    step_adam,
    step_sgd,
    subtract_row_max,
    sum_classes,
)
from workers.training.engines.llvm_tiles import COLUMNS, ROWS
from workers.training.randomness import LANES
from workers.training.stack import Stack, Tally, clip_bounds
from workers.training.tensors import SplitName

EVALUATED_ROWS = 64  # samples of one forward pass: the values of all layers stay in the cache
SLOTS_AT_ONCE = 4  # runs of one call, where there are many: a call costs some microseconds


class StackArrays(NamedTuple):
    """A stack's tensors as numpy arrays that share their memory, and its layout; row r belongs to the run in slot r.

    The fields are those of `stack.Stack` of the same names. Numba compiles their access by name at no cost.
    """

    parameters: Array  # R × P
    gradients: Array  # R × P, overwritten at each step
    first: Array  # R × P
    second: Array  # R × P, or R × 0 for SGD
    settings: Array  # R × 10, columns as `Setting`
    activations: Array  # R
    thresholds: Array  # R
    widths: Array  # R × (L + 1), without padding
    seeds: Array  # R
    images: Array  # M × 64
    labels: Array  # M
    copies: Array  # R
    first_rows: Array  # R
    scales: Array  # R
    bank: Array  # K × images of the dataset × 64
    sizes: Array  # L + 1, padded widths, see `Layout.sizes`
    starts: Array  # L + 1, see `Layout.starts`

    @classmethod
    def of(cls, stack: Stack) -> StackArrays:
        """Make the arrays of a stack. Making them takes as long as a training step, so an engine keeps them."""
        tensors = {name: getattr(stack, name).numpy() for name in cls._fields if hasattr(stack, name)}
        layout = stack.shape.layout
        return cls(**tensors, sizes=np.array(layout.sizes), starts=np.array(layout.starts))


@compiled
def train_runs(
    slots: Array,
    epoch: int,
    batch_size: int,
    is_adam: bool,
    stack: StackArrays,
    indices: Array,
    done: Array,
    losses: Array,
    corrects: Array,
) -> None:
    """Train each run in `slots` for an epoch, one after the other.

    Args:
        slots: The slots of the runs, at most R.
        epoch: From 1.
        batch_size: Without padding.
        is_adam: The optimizer is Adam, else SGD.
        stack: `parameters`, `gradients`, `first` and `second` are changed.
        indices: R × N, the rows of `images` of each run's train split.
        done: R, the finished steps; counted up.
        losses: R, output: the sum of cross-entropies as seen in training.
        corrects: R, output: the right predictions, likewise.
    """
    sizes, starts, widths, settings = stack.sizes, stack.starts, stack.widths, stack.settings
    thresholds, seeds, images, labels = stack.thresholds, stack.seeds, stack.images, stack.labels
    num_samples, last = indices.shape[1], sizes.size - 1
    num_steps = (num_samples + batch_size - 1) // batch_size
    rows = (batch_size + ROWS - 1) // ROWS * ROWS  # B
    groups = (batch_size + LANES - 1) // LANES
    num_units = sizes[1:last].sum()  # T
    kind = stack.parameters.dtype
    # Room for all layers, L + 1 rows of B × the largest width: values, the same after dropout, and gradients with
    # respect to a layer's outputs before its activation. All runs of this call use it in turn. A layer of H outputs
    # takes the first B·H numbers of its row.
    buffers = np.zeros((3, sizes.size, rows * sizes.max()), kind)
    values, dropped, deltas = buffers[0], buffers[1], buffers[2]
    grouped_factors = np.zeros((groups, LANES, num_units), kind)  # samples in groups of 8, T
    factors = grouped_factors.reshape(groups * LANES, num_units)  # the same memory, sample by sample
    transposed = np.zeros(sizes.max() ** 2, kind)
    in_order = np.arange(num_samples)

    for slot in slots:
        row, gradient, activation = stack.parameters[slot], stack.gradients[slot], stack.activations[slot]
        has_dropout = thresholds[slot] > 0 and num_units > 0
        outputs_of_hidden = dropped if has_dropout else values
        scale = stack.parameters.dtype.type(settings[slot, KEEP_SCALE])
        order = draw_order(seeds[slot], epoch, num_samples) if batch_size < num_samples else in_order
        num_copies, chosen = stack.copies[slot], in_order
        if num_copies > 0:
            chosen = draw_copies(seeds[slot], epoch, num_samples, num_copies)[order]  # N: the copy of each sample
        order = indices[slot][order]  # N: rows of `images`, in the order of this epoch
        loss, num_correct = 0.0, 0
        for step in range(num_steps):
            part = slice(step * batch_size, (step + 1) * batch_size)
            batch = order[part]  # the last one may be shorter
            if num_copies > 0:
                numbers = batch - stack.first_rows[slot]
                load_copies(stack.bank, chosen[part], numbers, stack.scales[slot], values[0, : rows * sizes[0]])
            else:
                load_batch(images, batch, values[0, : rows * sizes[0]])
            if has_dropout:
                draw_dropout(seeds[slot], epoch, step, thresholds[slot], scale, grouped_factors)
            forward(activation, row, sizes, starts, rows, values, has_dropout, factors, dropped)
            out = rows * COLUMNS  # logits are B × 16
            step_loss, step_correct = softmax(values[last, :out], labels[batch], deltas[last, :out])
            loss, num_correct = loss + step_loss, num_correct + step_correct
            # Backpropagation, from the last layer to the first: I. Goodfellow, Y. Bengio and A. Courville, "Deep
            # Learning", 2016, section 6.5. deltas[number] (B × H) are the gradients with respect to layer `number`'s
            # outputs before the activation.
            unit = num_units  # the column of `factors` at which the layer before begins
            for number in range(last, 0, -1):
                inputs, outputs = sizes[number - 1], sizes[number]
                source = outputs_of_hidden[number - 1] if number > 1 else values[0]
                delta, layer = deltas[number, : rows * outputs], slice(starts[number - 1], starts[number])
                layer_gradient(source, inputs, widths[slot, number - 1], delta, outputs, gradient[layer])
                if number > 1:
                    before = deltas[number - 1, : rows * inputs]
                    propagate_back(delta, outputs, row[layer], inputs, transposed, before)
                    # `before` is multiplied by the derivative, and by the dropout factors of the forward pass.
                    multiply_by_derivative(activation, before, values[number - 1])
                    unit -= inputs
                    if has_dropout:
                        multiply(before, before, factors, unit, inputs)
            num_before = (epoch - 1) * num_steps + step  # steps since the training began
            if is_adam:
                step_adam(settings[slot], row, gradient, stack.first[slot], stack.second[slot], num_before + 1)
            else:
                step_sgd(settings[slot], row, gradient, stack.first[slot], num_before)
            done[slot] += 1  # only one thread works on a slot, so no count is lost
        losses[slot], corrects[slot] = loss, num_correct


@compiled
def write_logits(activation: int, row: Array, indices: Array, stack: StackArrays, out: Array) -> None:
    """Write one run's logits (N × 16) for the images at `indices` (N) to `out`.

    `out` has room for whole blocks of 64 rows; `row` (P) are the parameters; dropout is off.
    """
    sizes, starts = stack.sizes, stack.starts
    last, rows = sizes.size - 1, min(EVALUATED_ROWS, out.size)  # 64 rows, whenever there is an image
    values = np.empty((sizes.size, rows * sizes.max()), row.dtype)  # L + 1 × (64 · the largest width)
    has_dropout = rows == 0  # always False; for a literal False, Numba would compile `forward` a second time
    for start in range(0, indices.size, rows):  # blocks of 64 samples; the last one is padded
        load_batch(stack.images, indices[start : start + rows], values[0, : rows * sizes[0]])
        forward(activation, row, sizes, starts, rows, values, has_dropout, values, values)
        out[start * COLUMNS : (start + rows) * COLUMNS] = values[last, : rows * COLUMNS]


@compiled
def evaluate_runs(
    slots: Array,
    lowest: float,
    highest: float,
    stack: StackArrays,
    indices: Array,
    done: Array,
    losses: Array,
    corrects: Array,
) -> None:
    """Evaluate each run in `slots` on a split, dropout off.

    Arguments are those of `train_runs`. `losses` and `corrects` (R each) receive the sum of cross-entropies, each
    clipped to the range from `lowest` to `highest`, and the number of right predictions.
    """
    num_samples = indices.shape[1]
    # N rounded up to whole blocks of 64
    room = (num_samples + EVALUATED_ROWS - 1) // EVALUATED_ROWS * EVALUATED_ROWS
    kind = stack.parameters.dtype
    logits, powers = np.empty(room * COLUMNS, kind), np.empty(room * COLUMNS, kind)
    logit_lines, lines = logits.reshape(-1, COLUMNS), powers.reshape(-1, COLUMNS)
    for slot in slots:
        write_logits(stack.activations[slot], stack.parameters[slot], indices[slot], stack, logits)
        wanted = stack.labels[indices[slot]]  # N
        corrects[slot] = subtract_row_max(logit_lines, wanted)
        for i in range(num_samples * COLUMNS):  # N·16, one straight loop: vector code
            powers[i] = exp(logits[i])
        loss = 0.0
        for n in range(num_samples):
            # -log of the label's probability; the logits lie below their largest, as in `kernels.softmax`.
            sample_loss = math.log(sum_classes(lines, n)) - logit_lines[n, wanted[n]]
            if sample_loss < lowest:  # comparisons with NaN are false: NaN stays NaN
                sample_loss = lowest
            elif sample_loss > highest:
                sample_loss = highest
            loss += sample_loss
        losses[slot] = loss
        done[slot] += 1


@compiled
def sum_squares(slots: Array, matrix: Array, starts: Array, out: Array) -> None:
    """Sums of squares of a matrix (R × P) by run and layer, to `out` (R × L), for the runs in `slots`."""
    for slot in slots:
        for layer in range(starts.size - 1):
            total = 0.0
            for i in range(starts[layer], starts[layer + 1]):
                total += np.float64(matrix[slot, i]) ** 2
            out[slot, layer] = total


class CompiledEngine:
    """Trains a stack on the CPU, as many runs at once as there are threads; see `stack.Engine` for the methods."""

    name = f"numba {version('numba')}"

    def __init__(self, stack: Stack, threads: int | None = None) -> None:
        self._stack = stack
        self.threads = threads or available_cores()
        self._arrays = StackArrays.of(stack)
        self._done = np.zeros(stack.size, np.int64)  # steps and evaluations by slot, counted by the kernels
        self._rows = {split: rows.numpy() for split, rows in stack.rows.items()}

    @property
    def num_done(self) -> int:
        return int(self._done.sum())

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        shape = self._stack.shape
        return self._tally(
            train_runs, slots, (epoch, shape.batch_size, shape.is_adam, self._arrays, self._rows["train"])
        )

    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        lowest, highest = clip_bounds(self._stack.parameters.dtype)
        return self._tally(evaluate_runs, slots, (lowest, highest, self._arrays, self._rows[split]))

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        chosen = np.array(slots)
        arrays = self._arrays
        squares = np.zeros((2, self._stack.size, len(arrays.starts) - 1))  # gradients and parameters: 2 × R × L
        for matrix, out in zip((arrays.gradients, arrays.parameters), squares, strict=True):
            sum_squares(chosen, matrix, arrays.starts, out)
        norms = np.sqrt(squares[:, chosen])  # 2 × slots × L
        return norms[0], norms[1]

    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        indices = self._rows[split][slot]
        room = -(-len(indices) // EVALUATED_ROWS) * EVALUATED_ROWS  # N rounded up to whole blocks
        out = np.empty(room * COLUMNS, parameters.numpy().dtype)
        write_logits(self._arrays.activations[slot], parameters.numpy(), indices, self._arrays, out)
        return out.reshape(room, COLUMNS)[: len(indices), :NUM_CLASSES]  # N × 10

    def _tally(self, kernel: Callable[..., None], slots: Sequence[int], arguments: tuple[Any, ...]) -> Tally:
        """Run a kernel over some slots: each thread takes the next few until none are left.

        A thread that gets quick runs takes more of them. The order changes no result: a run writes to its own rows
        only.
        """
        losses, corrects = np.zeros(self._stack.size), np.zeros(self._stack.size, np.int64)
        at_once = SLOTS_AT_ONCE if len(slots) > 4 * SLOTS_AT_ONCE * self.threads else 1
        chunks = deque(np.array(slots[start : start + at_once]) for start in range(0, len(slots), at_once))

        def work() -> None:
            while chunks:
                try:
                    chunk = chunks.popleft()
                except IndexError:  # another thread took the last one between the two lines
                    return
                kernel(chunk, *arguments, self._done, losses, corrects)

        # This thread works too: the pool is started only when there is work for two.
        helpers = [self._pool.submit(work) for _ in range(min(self.threads, len(chunks)) - 1)]
        work()
        for helper in helpers:
            helper.result()  # raises what a kernel raised
        return Tally(losses[list(slots)], corrects[list(slots)])

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="training")
