"""An engine for CPUs: a run's whole epoch is one call into code that Numba has compiled, without Python or its lock.

Runs do not touch each other here: each is trained by itself, in memory that fits a core's cache, as many at once as
there are cores. So nothing about a run's bits can depend on its stack.

D inputs and H outputs of a layer, both padded; B rows of a batch, padded to a multiple of 4; T hidden units, padded.
All buffers are flat, row after row; `x_start` says where in buffer `x` something begins.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload
from torch import Tensor

from workers.training import config, randomness, tiles
from workers.training import stack as stack_module
from workers.training.config import NUM_CLASSES
from workers.training.randomness import LANES
from workers.training.stack import Setting, Stack, Tally, clip_bounds
from workers.training.tensors import SplitName
from workers.training.tiles import COLUMNS, ROWS, add_product_tile, code_generator, transpose_tile

Function = TypeVar("Function", bound=Callable[..., Any])
Array = npt.NDArray[Any]

# Sums keep their order and NaN stays NaN: fast-math is limited to fused multiply-adds and reciprocals.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
EVALUATED_ROWS = 64  # at once: what goes through all layers stays in the cache
DEPTH = 256  # rows of a full batch whose contribution to a gradient is summed at once, for the same reason
SLOTS_AT_ONCE = 4
DIGIT_BITS = 11  # of the radix sort
NUM_DIGITS = 2**DIGIT_BITS
DROPOUT, DATA_ORDER = int(randomness.Purpose.DROPOUT), int(randomness.Purpose.DATA_ORDER)
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, BETA1, BETA2, EPSILON, KEEP_SCALE = (int(column) for column in Setting)


def _digest(*modules: ModuleType) -> str:
    return sha256(b"".join(Path(module.__file__ or "").read_bytes() for module in modules)).hexdigest()[:12]


# What is compiled below takes code and constants from these modules, but Numba looks at this file's date alone.
DIGEST = _digest(config, randomness, stack_module, tiles)


def compiled(function: Function) -> Function:
    """Compile at the first call; the machine code is kept on disk, where there is a place for it."""
    function.__qualname__ += f"_{DIGEST}"  # Numba names the files after it
    try:
        return cast(Function, numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # no folder for the cache can be written to
        return cast(Function, numba.njit(**OPTIONS)(function))


# Put in the place of every call, or loops around it would not become vector code.
_philox: Callable[..., Any] = numba.njit(inline="always", **OPTIONS)(randomness.philox)


@code_generator
def _float_of_bits(_context: Any, bits: Any) -> Any:
    """The float32 whose bits these are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float32(bits), generate


@compiled
def _exp32(x: Any) -> Any:
    """E to the x in float32, to about one unit in the last place, without a branch, so that loops become vector code.

    The range reduction and polynomial of the Cephes library's expf, S. L. Moshier, https://www.netlib.org/cephes/.
    """
    clipped = min(max(x, np.float32(-87.0)), np.float32(88.0))
    exponent = np.floor(clipped * np.float32(1.44269504088896341) + np.float32(0.5))
    r = clipped - exponent * np.float32(0.693359375)
    r = r - exponent * np.float32(-2.12194440e-4)
    polynomial = np.float32(1.9875691500e-4)
    polynomial = polynomial * r + np.float32(1.3981999507e-3)
    polynomial = polynomial * r + np.float32(8.3334519073e-3)
    polynomial = polynomial * r + np.float32(4.1665795894e-2)
    polynomial = polynomial * r + np.float32(1.6666665459e-1)
    polynomial = polynomial * r + np.float32(5.0000001201e-1)
    polynomial = polynomial * r * r + r + np.float32(1.0)
    power = polynomial * _float_of_bits(np.int32((np.int32(exponent) + np.int32(127)) << np.int32(23)))
    return power if x == x else x  # NaN stays NaN


@compiled
def _exp64(x: Any) -> Any:
    return math.exp(x)


def _exp(x: Any) -> Any:
    """E to the x, in compiled code, in the type of x."""
    raise NotImplementedError


@overload(_exp, jit_options=cast(Any, OPTIONS), strict=False)
def _choose_exp(x: Any) -> Callable[[Any], Any]:
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: _exp64(x)


@compiled
def _activate(kind: int, values: Array) -> None:
    """Apply an activation in place; `kind` is an index into ACTIVATIONS."""
    one = values.dtype.type(1)
    if kind == 0:
        for i in range(values.size):
            values[i] = one / (one + _exp(-values[i]))
    elif kind == 1:
        two = one + one
        for i in range(values.size):
            values[i] = one - two / (_exp(two * values[i]) + one)
    else:
        zero = values.dtype.type(0)
        for i in range(values.size):
            values[i] = zero if values[i] < zero else values[i]  # NaN stays NaN


@compiled
def _multiply_by_derivative(kind: int, deltas: Array, values: Array) -> None:
    """Multiply by an activation's derivative, taken from its own values."""
    one = values.dtype.type(1)
    if kind == 0:
        for i in range(deltas.size):
            deltas[i] *= values[i] * (one - values[i])
    elif kind == 1:
        for i in range(deltas.size):
            deltas[i] *= one - values[i] * values[i]
    else:
        zero = values.dtype.type(0)
        for i in range(deltas.size):
            deltas[i] = deltas[i] if values[i] > zero else zero


@compiled
def _apply_layer(x: Array, inputs: int, layer: Array, outputs: int, out: Array) -> None:
    """Out (B × H) = x (B × D) · weights + biases."""
    lines, biases = out.reshape(-1, outputs), layer[inputs * outputs :]
    rows = lines.shape[0]
    for b in range(rows):
        for h in range(outputs):
            lines[b, h] = biases[h]
    for h in range(0, outputs, COLUMNS):
        for b in range(0, rows, ROWS):
            add_product_tile(out, b * outputs + h, outputs, x, b * inputs, inputs, 1, layer, h, outputs, inputs)


@compiled
def _layer_gradient(x: Array, inputs: int, width: int, deltas: Array, outputs: int, gradient: Array) -> None:
    """Gradients of a layer: of its weights xᵀ (D × B) · deltas (B × H), of its biases the deltas' sum.

    `width` is the number of inputs without padding: a padded unit's value need not be 0, its weights' gradient must be.
    """
    lines, biases = deltas.reshape(-1, outputs), gradient[inputs * outputs :]
    rows = lines.shape[0]
    gradient[:] = 0
    for first in range(0, rows, DEPTH):
        depth = min(DEPTH, rows - first)
        for d in range(0, width, ROWS):
            for h in range(0, outputs, COLUMNS):
                place, step = first * inputs + d, first * outputs + h
                add_product_tile(gradient, d * outputs + h, outputs, x, place, 1, inputs, deltas, step, outputs, depth)
    gradient[width * outputs : inputs * outputs] = 0
    for b in range(rows):
        for h in range(outputs):
            biases[h] += lines[b, h]


@compiled
def _propagate_back(deltas: Array, outputs: int, layer: Array, inputs: int, transposed: Array, out: Array) -> None:
    """Out (B × D) = deltas (B × H) · weightsᵀ; `transposed` is room for the transposed weights."""
    rows = out.size // inputs
    for d in range(0, inputs, COLUMNS):
        for h in range(0, outputs, COLUMNS):
            transpose_tile(transposed, h * inputs + d, inputs, layer, d * outputs + h, outputs)
    out[:] = 0
    for d in range(0, inputs, COLUMNS):
        for b in range(0, rows, ROWS):
            add_product_tile(
                out, b * inputs + d, inputs, deltas, b * outputs, outputs, 1, transposed, d, inputs, outputs
            )


@compiled
def _multiply(out: Array, x: Array, factors: Array, first_unit: int, width: int) -> None:
    """Out = x · factors, number by number: B × H; the factors are some columns of B × T."""
    lines, sources = out.reshape(-1, width), x.reshape(-1, width)
    for b in range(lines.shape[0]):
        line, source, line_factors = lines[b], sources[b], factors[b][first_unit : first_unit + width]
        for h in range(width):
            line[h] = source[h] * line_factors[h]


@compiled
def _lower_by_top(logits: Array, labels: Array) -> int:
    """Subtract from each row of logits (B × 16) its largest; returns how many rows have their label's first."""
    num_correct = 0
    for b in range(labels.size):
        label_logit, top, num_above = logits[b, labels[b]], logits[b, 0], 0
        for c in range(NUM_CLASSES):
            value = logits[b, c]
            top = max(top, value)
            num_above += (value > label_logit) | ((value == label_logit) & (c < labels[b]))
        num_correct += num_above == 0
        for c in range(COLUMNS):
            logits[b, c] -= top
    return num_correct


@compiled
def _sum_classes(powers: Array, b: int) -> Any:
    total = powers[b, 0]
    for c in range(1, NUM_CLASSES):
        total += powers[b, c]
    return total


@compiled
def _softmax(logits: Array, labels: Array, deltas: Array) -> tuple[float, int]:
    """Gradients of a batch's mean cross-entropy with respect to its logits, B × 16; padded classes and rows get 0.

    Returns:
        The sum of the rows' cross-entropies, and how many rows have their label's logit first.
    """
    rows = labels.size
    logit_lines, lines = logits.reshape(-1, COLUMNS), deltas.reshape(-1, COLUMNS)
    num_correct = _lower_by_top(logit_lines, labels)
    for i in range(rows * COLUMNS):
        deltas[i] = _exp(logits[i])
    loss, share = 0.0, deltas.dtype.type(1 / rows)
    for b in range(rows):
        total = _sum_classes(lines, b)
        loss += math.log(total) - logit_lines[b, labels[b]]
        scale = share / total
        for c in range(COLUMNS):
            lines[b, c] = lines[b, c] * scale if c < NUM_CLASSES else 0
        lines[b, labels[b]] -= share
    lines[rows:] = 0
    return loss, num_correct


@compiled
def _draw_order(seed: int, epoch: int, num_samples: int) -> Array:
    """`randomness.data_orders` of one seed: a stable radix sort of the samples by their words."""
    words = np.empty(num_samples + 3, np.uint32)
    for block in range((num_samples + 3) // 4):
        w0, w1, w2, w3 = _philox(block, epoch, DATA_ORDER, 0, seed & 0xFFFFFFFF, seed >> 32)
        words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = w0, w1, w2, w3
    order = np.arange(num_samples)
    sorted_order = np.empty_like(order)
    places = np.empty(NUM_DIGITS, np.int64)
    for shift in range(0, 32, DIGIT_BITS):
        places[:] = 0
        for i in range(num_samples):
            places[(words[i] >> shift) & (NUM_DIGITS - 1)] += 1
        total = 0
        for digit in range(NUM_DIGITS):
            count = places[digit]
            places[digit] = total
            total += count
        for i in range(num_samples):
            digit = (words[order[i]] >> shift) & (NUM_DIGITS - 1)
            sorted_order[places[digit]] = order[i]
            places[digit] += 1
        order, sorted_order = sorted_order, order
    return order


@compiled
def _draw_dropout(seed: int, epoch: int, step: int, threshold: int, scale: Any, out: Array) -> None:
    """What hidden values are multiplied by: 0, or `scale` (inverted dropout). Cf. `randomness.dropout_lanes`.

    `out` has the shape groups of samples × 8 × T.
    """
    zero, num_units = out.dtype.type(0), out.shape[2]
    low, high = seed & 0xFFFFFFFF, seed >> 32
    words = np.empty((4, num_units), np.int64)
    words0, words1, words2, words3 = words[0], words[1], words[2], words[3]
    for group in range(out.shape[0]):
        for unit in range(num_units):
            w0, w1, w2, w3 = _philox(group * num_units + unit, epoch, DROPOUT, step, low, high)
            words0[unit], words1[unit], words2[unit], words3[unit] = w0, w1, w2, w3
        for number in range(4):
            halves, even, odd = words[number], out[group, 2 * number], out[group, 2 * number + 1]
            for unit in range(num_units):
                even[unit] = scale if (halves[unit] & 0xFFFF) >= threshold else zero
                odd[unit] = scale if (halves[unit] >> 16) >= threshold else zero


@compiled
def _step_sgd(settings: Array, row: Array, gradients: Array, momenta: Array) -> None:
    """As torch.optim.SGD."""
    kind = row.dtype.type
    rate, momentum, decay = kind(settings[LEARNING_RATE]), kind(settings[MOMENTUM]), kind(settings[WEIGHT_DECAY])
    for i in range(row.size):
        momenta[i] = momentum * momenta[i] + (gradients[i] + decay * row[i])
        row[i] -= rate * momenta[i]


@compiled
def _step_adam(settings: Array, row: Array, gradients: Array, first: Array, second: Array, step: int) -> None:
    """As torch.optim.Adam; steps count from 1."""
    kind = row.dtype.type
    decay, epsilon = kind(settings[WEIGHT_DECAY]), kind(settings[EPSILON])
    gain1, beta2, gain2 = kind(1 - settings[BETA1]), kind(settings[BETA2]), kind(1 - settings[BETA2])
    rate = kind(settings[LEARNING_RATE] / (1 - settings[BETA1] ** step))
    root = kind(math.sqrt(1 - settings[BETA2] ** step))
    for i in range(row.size):
        gradient = gradients[i] + decay * row[i]
        first[i] += (gradient - first[i]) * gain1
        second[i] = beta2 * second[i] + gain2 * gradient * gradient
        row[i] -= rate * first[i] / (np.sqrt(second[i]) / root + epsilon)


@compiled
def _load_batch(images: Array, indices: Array, x: Array) -> None:
    """Copy images (M × D) to the rows of a batch, the padding filled with zeros."""
    lines = x.reshape(-1, images.shape[1])
    for b in range(indices.size):
        image = images[indices[b]]
        for d in range(image.size):
            lines[b, d] = image[d]
    lines[indices.size :] = 0


@compiled
def _forward(
    kind: int, row: Array, sizes: Array, starts: Array, rows: int, values: Array,
    has_dropout: bool, factors: Array, dropped: Array,
) -> None:  # fmt: skip
    """A batch, which lies in values[0], through all layers, to values[1], values[2] and so on, B × H each.

    With dropout, hidden values go on multiplied by factors (B × T), to dropped[1] and so on.
    """
    source, unit, last = values[0], 0, sizes.size - 1
    for number in range(1, sizes.size):
        inputs, outputs = sizes[number - 1], sizes[number]
        out = values[number, : rows * outputs]
        _apply_layer(source, inputs, row[starts[number - 1] : starts[number]], outputs, out)
        source = out
        if number < last:
            _activate(kind, out)
            if has_dropout:
                source = dropped[number, : rows * outputs]
                _multiply(source, out, factors, unit, outputs)
            unit += outputs


@compiled
def train_runs(
    slots: Array, epoch: int, batch_size: int, is_adam: bool,
    parameters: Array, gradients: Array, first: Array, second: Array, settings: Array,
    activations: Array, thresholds: Array, widths: Array, seeds: Array, indices: Array,
    images: Array, labels: Array, sizes: Array, starts: Array,
    losses: Array, corrects: Array,
) -> None:  # fmt: skip
    """An epoch of each run in `slots`; fields of a `Stack` as arrays, results at the runs' slots."""
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
        order = _draw_order(seeds[slot], epoch, num_samples) if batch_size < num_samples else in_order
        order = indices[slot][order]
        loss, num_correct = 0.0, 0
        for step in range(num_steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            _load_batch(images, batch, values[0, : rows * sizes[0]])
            if has_dropout:
                _draw_dropout(seeds[slot], epoch, step, thresholds[slot], scale, grouped_factors)
            _forward(activation, row, sizes, starts, rows, values, has_dropout, factors, dropped)
            out = rows * COLUMNS
            step_loss, step_correct = _softmax(values[last, :out], labels[batch], deltas[last, :out])
            loss, num_correct = loss + step_loss, num_correct + step_correct
            unit = num_units
            for number in range(last, 0, -1):
                inputs, outputs = sizes[number - 1], sizes[number]
                source = outputs_of_hidden[number - 1] if number > 1 else values[0]
                delta, part = deltas[number, : rows * outputs], slice(starts[number - 1], starts[number])
                _layer_gradient(source, inputs, widths[slot, number - 1], delta, outputs, gradient[part])
                if number > 1:
                    before = deltas[number - 1, : rows * inputs]
                    _propagate_back(delta, outputs, row[part], inputs, transposed, before)
                    _multiply_by_derivative(activation, before, values[number - 1])
                    unit -= inputs
                    if has_dropout:
                        _multiply(before, before, factors, unit, inputs)
            if is_adam:
                _step_adam(settings[slot], row, gradient, first[slot], second[slot], (epoch - 1) * num_steps + step + 1)
            else:
                _step_sgd(settings[slot], row, gradient, first[slot])
        losses[slot], corrects[slot] = loss, num_correct


@compiled
def answer(activation: int, row: Array, indices: Array, images: Array, sizes: Array, starts: Array, out: Array) -> None:
    """One run's logits for the images at `indices`, N × 16; `out` has room for a multiple of 64 rows."""
    last, rows = sizes.size - 1, min(EVALUATED_ROWS, out.size)
    values = np.empty((sizes.size, rows * sizes.max()), row.dtype)
    has_dropout = rows == 0  # never; a literal False would have everything below compiled a second time
    for start in range(0, indices.size, rows):
        _load_batch(images, indices[start : start + rows], values[0, : rows * sizes[0]])
        _forward(activation, row, sizes, starts, rows, values, has_dropout, values, values)
        out[start * COLUMNS : (start + rows) * COLUMNS] = values[last, : rows * COLUMNS]


@compiled
def evaluate_runs(
    slots: Array, lowest: float, highest: float, parameters: Array, activations: Array, indices: Array,
    images: Array, labels: Array, sizes: Array, starts: Array, losses: Array, corrects: Array,
) -> None:  # fmt: skip
    """Cross-entropy and right answers of each run in `slots`, dropout off, a sample's loss clipped to these bounds."""
    num_samples = indices.shape[1]
    room = (num_samples + EVALUATED_ROWS - 1) // EVALUATED_ROWS * EVALUATED_ROWS
    logits, powers = np.empty(room * COLUMNS, parameters.dtype), np.empty(room * COLUMNS, parameters.dtype)
    logit_lines, lines = logits.reshape(-1, COLUMNS), powers.reshape(-1, COLUMNS)
    for slot in slots:
        answer(activations[slot], parameters[slot], indices[slot], images, sizes, starts, logits)
        wanted = labels[indices[slot]]
        corrects[slot] = _lower_by_top(logit_lines, wanted)
        for i in range(num_samples * COLUMNS):
            powers[i] = _exp(logits[i])
        loss = 0.0
        for n in range(num_samples):
            sample_loss = math.log(_sum_classes(lines, n)) - logit_lines[n, wanted[n]]
            if sample_loss < lowest:  # written so that NaN stays NaN
                sample_loss = lowest
            elif sample_loss > highest:
                sample_loss = highest
            loss += sample_loss
        losses[slot] = loss


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
        self._rows = {split: rows.numpy() for split, rows in stack.rows.items()}

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
                kernel(chunk, *arguments, losses, corrects)

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
