"""The arithmetic of one network, compiled by Numba: layers forward and back, softmax, dropout, optimizer steps.

D inputs and H outputs of a layer, both padded; B rows of a batch, padded to a multiple of 4; T hidden units, padded.
Matrices lie row after row in flat, contiguous arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from workers.training import config, randomness, stack
from workers.training.config import NUM_CLASSES
from workers.training.engines import llvm_tiles
from workers.training.engines.llvm_tiles import COLUMNS, ROWS, add_product_tile, code_generator, transpose_tile
from workers.training.stack import Setting

Function = TypeVar("Function", bound=Callable[..., Any])
Array = npt.NDArray[Any]

# Sums keep their order and NaN stays NaN: fast-math is limited to fused multiply-adds and reciprocals.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
DEPTH = 256  # rows of a full batch whose contribution to a gradient is summed at once: they stay in the cache
BUCKET_BITS = 11  # of the radix sort
NUM_BUCKETS = 2**BUCKET_BITS
DROPOUT, DATA_ORDER = int(randomness.Purpose.DROPOUT), int(randomness.Purpose.DATA_ORDER)
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, BETA1, BETA2, EPSILON, KEEP_SCALE = (int(column) for column in Setting)


# What is compiled takes code and constants from these files, but Numba looks at the date of one file alone.
SOURCES = [Path(module.__file__ or "") for module in (config, randomness, stack, llvm_tiles)]
DIGEST = sha256(b"".join(source.read_bytes() for source in (Path(__file__), *SOURCES))).hexdigest()[:12]


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


def exp(x: Any) -> Any:
    """E to the x, in compiled code, in the type of x."""
    raise NotImplementedError


@overload(exp, jit_options=cast(Any, OPTIONS), strict=False)
def _choose_exp(x: Any) -> Callable[[Any], Any]:
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: _exp64(x)


@compiled
def activate(kind: int, values: Array) -> None:
    """Apply an activation in place; `kind` is an index into ACTIVATIONS."""
    one = values.dtype.type(1)
    if kind == 0:
        for i in range(values.size):
            values[i] = one / (one + exp(-values[i]))
    elif kind == 1:
        two = one + one
        for i in range(values.size):
            values[i] = one - two / (exp(two * values[i]) + one)
    else:
        zero = values.dtype.type(0)
        for i in range(values.size):
            values[i] = zero if values[i] < zero else values[i]  # NaN stays NaN


@compiled
def multiply_by_derivative(kind: int, deltas: Array, values: Array) -> None:
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
def apply_layer(x: Array, inputs: int, layer: Array, outputs: int, out: Array) -> None:
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
def layer_gradient(x: Array, inputs: int, width: int, deltas: Array, outputs: int, gradient: Array) -> None:
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
def propagate_back(deltas: Array, outputs: int, layer: Array, inputs: int, transposed: Array, out: Array) -> None:
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
def multiply(out: Array, x: Array, factors: Array, first_unit: int, width: int) -> None:
    """Out = x · factors, number by number: B × H; the factors are some columns of B × T."""
    lines, sources = out.reshape(-1, width), x.reshape(-1, width)
    for b in range(lines.shape[0]):
        line, source, line_factors = lines[b], sources[b], factors[b][first_unit : first_unit + width]
        for h in range(width):
            line[h] = source[h] * line_factors[h]


@compiled
def subtract_row_max(logits: Array, labels: Array) -> int:
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
def sum_classes(powers: Array, b: int) -> Any:
    total = powers[b, 0]
    for c in range(1, NUM_CLASSES):
        total += powers[b, c]
    return total


@compiled
def softmax(logits: Array, labels: Array, deltas: Array) -> tuple[float, int]:
    """Gradients of a batch's mean cross-entropy with respect to its logits, B × 16; padded classes and rows get 0.

    Returns:
        The sum of the rows' cross-entropies, and how many rows have their label's logit first.
    """
    rows = labels.size
    logit_lines, lines = logits.reshape(-1, COLUMNS), deltas.reshape(-1, COLUMNS)
    num_correct = subtract_row_max(logit_lines, labels)
    for i in range(rows * COLUMNS):
        deltas[i] = exp(logits[i])
    loss, share = 0.0, deltas.dtype.type(1 / rows)
    for b in range(rows):
        total = sum_classes(lines, b)
        loss += math.log(total) - logit_lines[b, labels[b]]
        scale = share / total
        for c in range(COLUMNS):
            lines[b, c] = lines[b, c] * scale if c < NUM_CLASSES else 0
        lines[b, labels[b]] -= share
    lines[rows:] = 0
    return loss, num_correct


@compiled
def draw_order(seed: int, epoch: int, num_samples: int) -> Array:
    """`randomness.data_orders` of one seed: a stable radix sort of the samples by their words."""
    words = np.empty(num_samples + 3, np.uint32)
    for block in range((num_samples + 3) // 4):
        w0, w1, w2, w3 = _philox(block, epoch, DATA_ORDER, 0, seed & 0xFFFFFFFF, seed >> 32)
        words[4 * block], words[4 * block + 1], words[4 * block + 2], words[4 * block + 3] = w0, w1, w2, w3
    order = np.arange(num_samples)
    sorted_order = np.empty_like(order)
    places = np.empty(NUM_BUCKETS, np.int64)
    for shift in range(0, 32, BUCKET_BITS):
        places[:] = 0
        for i in range(num_samples):
            places[(words[i] >> shift) & (NUM_BUCKETS - 1)] += 1
        total = 0
        for digit in range(NUM_BUCKETS):
            count = places[digit]
            places[digit] = total
            total += count
        for i in range(num_samples):
            digit = (words[order[i]] >> shift) & (NUM_BUCKETS - 1)
            sorted_order[places[digit]] = order[i]
            places[digit] += 1
        order, sorted_order = sorted_order, order
    return order


@compiled
def draw_dropout(seed: int, epoch: int, step: int, threshold: int, scale: Any, out: Array) -> None:
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
def step_sgd(settings: Array, row: Array, gradients: Array, momenta: Array) -> None:
    """As torch.optim.SGD."""
    kind = row.dtype.type
    rate, momentum, decay = kind(settings[LEARNING_RATE]), kind(settings[MOMENTUM]), kind(settings[WEIGHT_DECAY])
    for i in range(row.size):
        momenta[i] = momentum * momenta[i] + (gradients[i] + decay * row[i])
        row[i] -= rate * momenta[i]


@compiled
def step_adam(settings: Array, row: Array, gradients: Array, first: Array, second: Array, step: int) -> None:
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
def load_batch(images: Array, indices: Array, x: Array) -> None:
    """Copy images (M × D) to the rows of a batch, the padding filled with zeros."""
    lines = x.reshape(-1, images.shape[1])
    for b in range(indices.size):
        image = images[indices[b]]
        for d in range(image.size):
            lines[b, d] = image[d]
    lines[indices.size :] = 0


@compiled
def forward(
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
        apply_layer(source, inputs, row[starts[number - 1] : starts[number]], outputs, out)
        source = out
        if number < last:
            activate(kind, out)
            if has_dropout:
                source = dropped[number, : rows * outputs]
                multiply(source, out, factors, unit, outputs)
            unit += outputs
