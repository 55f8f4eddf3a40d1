"""An engine for CPUs: a run's whole epoch is one call into code that Numba has compiled, without Python or its lock.

Runs do not touch each other here: each is trained by itself, in memory that fits a core's cache, as many at once as
there are cores. So nothing about a run's bits can depend on its stack.

R runs, P parameters of a network, N samples of a split, M images; all widths padded.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from workers.training.config import NUM_CLASSES
from workers.training.engines.kernels import (
    KEEP_SCALE,
    Array,
    compiled,
    draw_dropout,
    draw_order,
    exp,
    forward,
    layer_gradient,
    load_batch,
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

EVALUATED_ROWS = 64  # at once: what goes through all layers stays in the cache
SLOTS_AT_ONCE = 4  # in one call, where there are many: a call costs some microseconds


@compiled
def train_runs(
    slots: Array, epoch: int, batch_size: int, is_adam: bool,
    parameters: Array, gradients: Array, first: Array, second: Array, settings: Array,
    activations: Array, thresholds: Array, widths: Array, seeds: Array, indices: Array,
    images: Array, labels: Array, sizes: Array, starts: Array,
    done: Array, losses: Array, corrects: Array,
) -> None:  # fmt: skip
    """An epoch of each run in `slots`; fields of a `Stack` as arrays, results and finished steps at the runs' slots."""
    num_samples, last = indices.shape[1], sizes.size - 1
    num_steps = (num_samples + batch_size - 1) // batch_size
    rows = (batch_size + ROWS - 1) // ROWS * ROWS
    groups = (batch_size + LANES - 1) // LANES
    num_units = sizes[1:last].sum()
    kind = parameters.dtype
    buffers = np.zeros((3, sizes.size, rows * sizes.max()), kind)
    values, dropped, deltas = buffers[0], buffers[1], buffers[2]
    grouped_factors = np.zeros((groups, LANES, num_units), kind)
    factors = grouped_factors.reshape(groups * LANES, num_units)
    transposed = np.zeros(sizes.max() ** 2, kind)
    in_order = np.arange(num_samples)

    for slot in slots:
        row, gradient, activation = parameters[slot], gradients[slot], activations[slot]
        has_dropout = thresholds[slot] > 0 and num_units > 0
        outputs_of_hidden = dropped if has_dropout else values
        scale = parameters.dtype.type(settings[slot, KEEP_SCALE])
        order = draw_order(seeds[slot], epoch, num_samples) if batch_size < num_samples else in_order
        order = indices[slot][order]
        loss, num_correct = 0.0, 0
        for step in range(num_steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            load_batch(images, batch, values[0, : rows * sizes[0]])
            if has_dropout:
                draw_dropout(seeds[slot], epoch, step, thresholds[slot], scale, grouped_factors)
            forward(activation, row, sizes, starts, rows, values, has_dropout, factors, dropped)
            out = rows * COLUMNS
            step_loss, step_correct = softmax(values[last, :out], labels[batch], deltas[last, :out])
            loss, num_correct = loss + step_loss, num_correct + step_correct
            unit = num_units
            for number in range(last, 0, -1):
                inputs, outputs = sizes[number - 1], sizes[number]
                source = outputs_of_hidden[number - 1] if number > 1 else values[0]
                delta, part = deltas[number, : rows * outputs], slice(starts[number - 1], starts[number])
                layer_gradient(source, inputs, widths[slot, number - 1], delta, outputs, gradient[part])
                if number > 1:
                    before = deltas[number - 1, : rows * inputs]
                    propagate_back(delta, outputs, row[part], inputs, transposed, before)
                    multiply_by_derivative(activation, before, values[number - 1])
                    unit -= inputs
                    if has_dropout:
                        multiply(before, before, factors, unit, inputs)
            if is_adam:
                step_adam(settings[slot], row, gradient, first[slot], second[slot], (epoch - 1) * num_steps + step + 1)
            else:
                step_sgd(settings[slot], row, gradient, first[slot])
            done[slot] += 1  # each slot is one thread's: nothing is counted twice
        losses[slot], corrects[slot] = loss, num_correct


@compiled
def answer(activation: int, row: Array, indices: Array, images: Array, sizes: Array, starts: Array, out: Array) -> None:
    """One run's logits for the images at `indices`, N × 16; `out` has room for a multiple of 64 rows."""
    last, rows = sizes.size - 1, min(EVALUATED_ROWS, out.size)
    values = np.empty((sizes.size, rows * sizes.max()), row.dtype)
    has_dropout = rows == 0  # never; a literal False would have everything below compiled a second time
    for start in range(0, indices.size, rows):
        load_batch(images, indices[start : start + rows], values[0, : rows * sizes[0]])
        forward(activation, row, sizes, starts, rows, values, has_dropout, values, values)
        out[start * COLUMNS : (start + rows) * COLUMNS] = values[last, : rows * COLUMNS]


@compiled
def evaluate_runs(
    slots: Array, lowest: float, highest: float, parameters: Array, activations: Array, indices: Array,
    images: Array, labels: Array, sizes: Array, starts: Array, done: Array, losses: Array, corrects: Array,
) -> None:  # fmt: skip
    """Cross-entropy and right answers of each run in `slots`, dropout off, a sample's loss clipped to these bounds."""
    num_samples = indices.shape[1]
    room = (num_samples + EVALUATED_ROWS - 1) // EVALUATED_ROWS * EVALUATED_ROWS
    logits, powers = np.empty(room * COLUMNS, parameters.dtype), np.empty(room * COLUMNS, parameters.dtype)
    logit_lines, lines = logits.reshape(-1, COLUMNS), powers.reshape(-1, COLUMNS)
    for slot in slots:
        answer(activations[slot], parameters[slot], indices[slot], images, sizes, starts, logits)
        wanted = labels[indices[slot]]
        corrects[slot] = subtract_row_max(logit_lines, wanted)
        for i in range(num_samples * COLUMNS):
            powers[i] = exp(logits[i])
        loss = 0.0
        for n in range(num_samples):
            sample_loss = math.log(sum_classes(lines, n)) - logit_lines[n, wanted[n]]
            if sample_loss < lowest:  # written so that NaN stays NaN
                sample_loss = lowest
            elif sample_loss > highest:
                sample_loss = highest
            loss += sample_loss
        losses[slot] = loss
        done[slot] += 1


@compiled
def sum_squares(slots: Array, matrix: Array, starts: Array, out: Array) -> None:
    """For each run in `slots` and each layer, the sum of squares of its part of the run's row."""
    for slot in slots:
        for layer in range(starts.size - 1):
            total = 0.0
            for i in range(starts[layer], starts[layer + 1]):
                total += np.float64(matrix[slot, i]) ** 2
            out[slot, layer] = total


class CompiledEngine:
    """Trains a stack on the CPU, several runs at once."""

    name = f"numba {version('numba')}"

    def __init__(self, stack: Stack, threads: int | None = None) -> None:
        self._stack = stack
        self.threads = threads or available_cores()
        self._sizes = np.array(stack.shape.layout.sizes)
        self._starts = np.array(stack.shape.layout.starts)
        # Views of the tensors, made once: making them costs as much as a step.
        state = (stack.parameters, stack.gradients, stack.first, stack.second, stack.settings)
        properties = (stack.activations, stack.thresholds, stack.widths, stack.seeds)
        self._state, self._properties = _views(state), _views(properties)
        self._data = (*_views((stack.images, stack.labels)), self._sizes, self._starts)
        self._done = np.zeros(stack.size, np.int64)  # steps and evaluations by slot, counted by the kernels
        self._rows = {split: rows.numpy() for split, rows in stack.rows.items()}

    @property
    def num_done(self) -> int:
        return int(self._done.sum())

    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        shape = self._stack.shape
        arguments = (epoch, shape.batch_size, shape.is_adam, *self._state, *self._properties, self._rows["train"])
        return self._tally(train_runs, slots, (*arguments, *self._data))

    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        bounds = clip_bounds(self._stack.parameters.dtype)
        arguments = (*bounds, self._state[0], self._properties[0], self._rows[split])
        return self._tally(evaluate_runs, slots, (*arguments, *self._data))

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        chosen = np.array(slots)
        squares = np.zeros((2, self._stack.size, len(self._starts) - 1))
        parameters, gradients = self._state[:2]
        for matrix, out in zip((gradients, parameters), squares, strict=True):
            sum_squares(chosen, matrix, self._starts, out)
        norms = np.sqrt(squares[:, chosen])
        return norms[0], norms[1]

    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        indices = self._rows[split][slot]
        room = -(-len(indices) // EVALUATED_ROWS) * EVALUATED_ROWS
        out = np.empty(room * COLUMNS, parameters.numpy().dtype)
        activation, images = self._properties[0][slot], self._data[0]
        answer(activation, parameters.numpy(), indices, images, self._sizes, self._starts, out)
        return out.reshape(room, COLUMNS)[: len(indices), :NUM_CLASSES]

    def _tally(self, kernel: Callable[..., None], slots: Sequence[int], arguments: tuple[Any, ...]) -> Tally:
        """Run a kernel over some slots, a few at a time in every thread."""
        losses, corrects = np.zeros(self._stack.size), np.zeros(self._stack.size, np.int64)
        at_once = SLOTS_AT_ONCE if len(slots) > 4 * SLOTS_AT_ONCE * self.threads else 1
        chunks = deque(np.array(slots[start : start + at_once]) for start in range(0, len(slots), at_once))

        def work() -> None:
            while chunks:
                try:
                    chunk = chunks.popleft()
                except IndexError:  # another thread was faster
                    return
                kernel(chunk, *arguments, self._done, losses, corrects)

        helpers = [self._pool.submit(work) for _ in range(min(self.threads, len(chunks)) - 1)]
        work()
        for helper in helpers:
            helper.result()
        return Tally(losses[list(slots)], corrects[list(slots)])

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="training")


def _views(tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


def available_cores() -> int:
    """That this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
