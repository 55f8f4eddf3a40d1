"""The arithmetic of one network, compiled by Numba: layers forward and back, softmax, optimizer steps.

Shape letters: B rows of a batch, padded to a multiple of 4 (ROWS); D inputs and H outputs of a layer, padded to
multiples of 16; T hidden units of all layers together, padded; P parameters of a network; C = 10 classes, padded to 16
(COLUMNS); M images of all datasets. A matrix is stored row by row in a flat, contiguous
array: element (b, h) of B × H is at b·H + h. `lines` names such an array seen as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numba import types
from numba.extending import overload

from workers.training.config import NUM_CLASSES
from workers.training.engines.compilation import OPTIONS, Array, compiled
from workers.training.engines.llvm_tiles import COLUMNS, ROWS, add_product_tile, code_generator, transpose_tile
from workers.training.stack import Setting

DEPTH = 256  # a gradient sums this many rows of a large batch at a time: they stay in the cache
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, *_OTHERS = (int(column) for column in Setting)
BETA1, BETA2, EPSILON, KEEP_SCALE, WARMUP_STEPS, TOTAL_STEPS, NESTEROV = _OTHERS


@code_generator
def float_of_bits(_context: Any, bits: Any) -> Any:
    """The float32 that has these 32 bits (int32): a reinterpretation, like C's memcpy, not a conversion."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float32(bits), generate


@compiled
def _exp32(x: Any) -> Any:
    """E to the x in float32, accurate to about one unit in the last place.

    It has no branch and calls no library, so LLVM vectorizes the loops around it. The range reduction and polynomial
    are those of expf in the Cephes library, S. L. Moshier, https://www.netlib.org/cephes/.
    """
    # These bounds keep the exponent between -126 and 127, where 2^exponent is a normal float32.
    clipped = min(max(x, np.float32(-87.0)), np.float32(88.0))
    # e^x = 2^exponent · e^r, where exponent = round(x / ln 2) and r = x - exponent · ln 2, so |r| is at most ln 2 / 2.
    # ln 2 is subtracted in two parts: the first has so few bits that its product with the exponent is exact.
    exponent = np.floor(clipped * np.float32(1.44269504088896341) + np.float32(0.5))
    r = clipped - exponent * np.float32(0.693359375)
    r = r - exponent * np.float32(-2.12194440e-4)
    # e^r = 1 + r + r² · polynomial(r), by Horner's rule.
    polynomial = np.float32(1.9875691500e-4)
    polynomial = polynomial * r + np.float32(1.3981999507e-3)
    polynomial = polynomial * r + np.float32(8.3334519073e-3)
    polynomial = polynomial * r + np.float32(4.1665795894e-2)
    polynomial = polynomial * r + np.float32(1.6666665459e-1)
    polynomial = polynomial * r + np.float32(5.0000001201e-1)
    polynomial = polynomial * r * r + r + np.float32(1.0)
    # A float32 stores its exponent plus 127 above 23 bits of mantissa: these bits are 2^exponent.
    power = polynomial * float_of_bits(np.int32((np.int32(exponent) + np.int32(127)) << np.int32(23)))
    return power if x == x else x  # the clipping loses a NaN: return it as it came


@compiled
def _exp64(x: Any) -> Any:
    return math.exp(x)


def exp(x: Any) -> Any:
    """E to the x in the type of x (float32 or float64).

    Only compiled code can call it: Numba replaces the call with `_exp32` or `_exp64`, by the type of x.
    """
    raise NotImplementedError


@overload(exp, jit_options=cast(Any, OPTIONS), strict=False)
def _choose_exp(x: Any) -> Callable[[Any], Any]:
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: _exp64(x)


@compiled
def activate(kind: int, values: Array) -> None:
    """Apply an activation in place to B × H values; `kind` is an index into ACTIVATIONS."""
    one = values.dtype.type(1)  # a literal 1.0 would be a float64, and turn the arithmetic into float64
    if kind == 0:  # sigmoid(x) = 1 / (1 + e^-x)
        for i in range(values.size):  # B·H
            values[i] = one / (one + exp(-values[i]))
    elif kind == 1:  # tanh(x) = 1 - 2 / (e^2x + 1)
        two = one + one
        for i in range(values.size):  # B·H
            values[i] = one - two / (exp(two * values[i]) + one)
    else:  # relu
        zero = values.dtype.type(0)
        for i in range(values.size):  # B·H
            values[i] = zero if values[i] < zero else values[i]  # NaN stays NaN, which max() would not promise


@compiled
def multiply_by_derivative(kind: int, deltas: Array, values: Array) -> None:
    """Multiply deltas (B × H) in place by the activation's derivative, computed from the activation's output `values`.

    `values` may be longer than `deltas`: the rest is not read.
    """
    one = values.dtype.type(1)
    if kind == 0:  # sigmoid' = sigmoid · (1 - sigmoid)
        for i in range(deltas.size):  # B·H
            deltas[i] *= values[i] * (one - values[i])
    elif kind == 1:  # tanh' = 1 - tanh²
        for i in range(deltas.size):  # B·H
            deltas[i] *= one - values[i] * values[i]
    else:  # relu' = 1 where the output is positive, else 0
        zero = values.dtype.type(0)
        for i in range(deltas.size):  # B·H
            deltas[i] = deltas[i] if values[i] > zero else zero


@compiled
def apply_layer(x: Array, inputs: int, layer: Array, outputs: int, out: Array) -> None:
    """Out (B × H) = x (B × D) · weights (D × H) + biases (H); `layer` holds the weights, then the biases."""
    lines, biases = out.reshape(-1, outputs), layer[inputs * outputs :]  # B × H, H
    rows = lines.shape[0]
    # A product tile adds to what lies in `out`: start from the biases.
    for b in range(rows):
        for h in range(outputs):
            lines[b, h] = biases[h]
    # One tile of 4 × 16 at a time. The same 16 columns of the weights (D × 16) serve all rows of the batch in turn,
    # so the columns are the outer loop.
    for h in range(0, outputs, COLUMNS):
        for b in range(0, rows, ROWS):
            add_product_tile(out, b * outputs + h, outputs, x, b * inputs, inputs, 1, layer, h, outputs, inputs)


@compiled
def layer_gradient(x: Array, inputs: int, width: int, deltas: Array, outputs: int, gradient: Array) -> None:
    """A layer's gradients (D·H + H): xᵀ (D × B) · deltas (B × H) for the weights, column sums of deltas for the biases.

    `width` is the number of inputs without padding. The gradient of a padded input's weights must be 0, but the input
    itself need not be: a padded sigmoid unit's value is 0.5. So the rows from `width` on are set to 0.
    """
    lines, biases = deltas.reshape(-1, outputs), gradient[inputs * outputs :]  # B × H, H
    rows = lines.shape[0]
    gradient[:] = 0
    # Blocks of at most 256 rows of the batch: each block of x and deltas stays in the cache for all of its tiles.
    for first in range(0, rows, DEPTH):
        depth = min(DEPTH, rows - first)
        for d in range(0, width, ROWS):
            for h in range(0, outputs, COLUMNS):
                # x is read as its transpose: down a tile by 1 (the next input), along the depth by D (the next sample).
                place, step = first * inputs + d, first * outputs + h
                add_product_tile(gradient, d * outputs + h, outputs, x, place, 1, inputs, deltas, step, outputs, depth)
    gradient[width * outputs : inputs * outputs] = 0  # the padded inputs' rows, (D - width) × H
    for b in range(rows):  # B × H, summed over B; the deltas of padded samples are 0
        for h in range(outputs):
            biases[h] += lines[b, h]


@compiled
def propagate_back(deltas: Array, outputs: int, layer: Array, inputs: int, transposed: Array, out: Array) -> None:
    """Out (B × D) = deltas (B × H) · weightsᵀ (H × D); `transposed` is a buffer of H·D numbers or more for weightsᵀ."""
    rows = out.size // inputs
    # A product tile loads 16 neighbouring numbers of its right matrix at once, so the weights (D × H) are written
    # out transposed (H × D), in squares of 16 × 16.
    for d in range(0, inputs, COLUMNS):
        for h in range(0, outputs, COLUMNS):
            transpose_tile(transposed, h * inputs + d, inputs, layer, d * outputs + h, outputs)
    out[:] = 0
    for d in range(0, inputs, COLUMNS):  # tiles of B × D, H deep
        for b in range(0, rows, ROWS):
            add_product_tile(
                out, b * inputs + d, inputs, deltas, b * outputs, outputs, 1, transposed, d, inputs, outputs
            )


@compiled
def multiply(out: Array, x: Array, factors: Array, first_unit: int, width: int) -> None:
    """Out (B × H) = x (B × H) · factors, element by element.

    The factors are columns `first_unit` to `first_unit + width` of an array of at least B rows and T columns: one
    layer's units among those of all hidden layers. `out` may be `x`.
    """
    lines, sources = out.reshape(-1, width), x.reshape(-1, width)  # B × H
    for b in range(lines.shape[0]):
        # One-dimensional slices: LLVM vectorizes the loop over them.
        line, source, line_factors = lines[b], sources[b], factors[b][first_unit : first_unit + width]
        for h in range(width):
            line[h] = source[h] * line_factors[h]


@compiled
def subtract_row_max(logits: Array, labels: Array) -> int:
    """Subtract from each row of logits (B × 16) the largest of its 10 classes; returns how many predictions are right.

    Softmax does not change by it, and no exponential overflows. A prediction is the class of the largest logit, the
    first of equal ones, as argmax has it.
    """
    num_correct = 0
    for b in range(labels.size):  # the rows of padded samples are left alone
        label_logit, top, num_above = logits[b, labels[b]], logits[b, 0], 0
        for c in range(NUM_CLASSES):
            value = logits[b, c]
            top = max(top, value)
            # Classes that argmax would prefer to the label. Adding up truth values needs no branch.
            num_above += (value > label_logit) | ((value == label_logit) & (c < labels[b]))
        num_correct += num_above == 0
        for c in range(COLUMNS):  # the padding too: one whole vector
            logits[b, c] -= top
    return num_correct


@compiled
def sum_classes(powers: Array, b: int) -> Any:
    """The sum of row b of powers (B × 16) over the 10 classes."""
    total = powers[b, 0]
    for c in range(1, NUM_CLASSES):
        total += powers[b, c]
    return total


@compiled
def softmax(logits: Array, labels: Array, deltas: Array) -> tuple[float, int]:
    """Write the gradients of a batch's mean cross-entropy with respect to its logits (B × 16) to `deltas` (B × 16).

    The gradient is (softmax - one-hot label) / number of samples (cf. C. M. Bishop, "Pattern Recognition and Machine
    Learning", 2006, equation 4.109); padded classes and samples get 0. The logits are changed: see `subtract_row_max`.

    Returns:
        The sum of the samples' cross-entropies in nats, and how many predictions are right.
    """
    rows = labels.size  # without padded samples
    logit_lines, lines = logits.reshape(-1, COLUMNS), deltas.reshape(-1, COLUMNS)
    num_correct = subtract_row_max(logit_lines, labels)
    for i in range(rows * COLUMNS):  # one straight loop over B·16, padding included, becomes vector code
        deltas[i] = exp(logits[i])
    loss, share = 0.0, deltas.dtype.type(1 / rows)  # the loss is summed in float64
    for b in range(rows):
        total = sum_classes(lines, b)
        # -log(e^z_label / Σ e^z), where z are the logits less the largest
        loss += math.log(total) - logit_lines[b, labels[b]]
        scale = share / total
        for c in range(COLUMNS):
            lines[b, c] = lines[b, c] * scale if c < NUM_CLASSES else 0
        lines[b, labels[b]] -= share
    lines[rows:] = 0  # padded samples: with deltas of 0 they add nothing to any gradient
    return loss, num_correct


@compiled
def rate_factor(settings: Array, step: int) -> Any:
    """What a run's learning rate is multiplied by at a step, which counts from 0: see `schedule.rate_factors`."""
    warmup, total = settings[WARMUP_STEPS], settings[TOTAL_STEPS]
    if total == 0:
        return 1.0
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * ((step - warmup) / (total - warmup))))


@compiled
def step_sgd(settings: Array, row: Array, gradients: Array, momenta: Array, step: int) -> None:
    """One step of torch.optim.SGD with momentum, on a network's parameters `row` (P); changes `row` and `momenta` (P).

    The formulas are those of https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html, without
    dampening. `settings` is one run's row of `Stack.settings` (10, float64); `step` counts from 0 over the whole
    training.
    """
    kind = row.dtype.type  # settings in the parameters' type: a float64 among them would make the loop float64
    rate = kind(settings[LEARNING_RATE] * rate_factor(settings, step))
    momentum, decay = kind(settings[MOMENTUM]), kind(settings[WEIGHT_DECAY])
    if settings[NESTEROV] > 0:
        for i in range(row.size):  # P; padding too: parameters and gradients are 0 there, and stay so
            gradient = gradients[i] + decay * row[i]
            momenta[i] = momentum * momenta[i] + gradient
            row[i] -= rate * (gradient + momentum * momenta[i])
        return
    for i in range(row.size):  # P
        momenta[i] = momentum * momenta[i] + (gradients[i] + decay * row[i])
        row[i] -= rate * momenta[i]


@compiled
def step_adam(settings: Array, row: Array, gradients: Array, first: Array, second: Array, step: int) -> None:
    """One step of torch.optim.Adam on a network's parameters `row` (P); changes `row`, `first` and `second` (P each).

    D. P. Kingma and J. Ba, "Adam: A method for stochastic optimization", ICLR 2015, https://arxiv.org/abs/1412.6980,
    with weight decay added to the gradient, as torch does it
    (https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html).

    Args:
        settings: One run's row of `Stack.settings` (10, float64).
        row: The parameters.
        gradients: Of the loss, without weight decay.
        first: The running mean of gradients.
        second: The running mean of squared gradients.
        step: Counts from 1 over the whole training; the bias corrections depend on it.
    """
    # All that has 1 - β in it is computed in float64 and rounded last: in float32, 1 - β may be 0.
    kind = row.dtype.type
    decay, epsilon = kind(settings[WEIGHT_DECAY]), kind(settings[EPSILON])
    gain1, beta2, gain2 = kind(1 - settings[BETA1]), kind(settings[BETA2]), kind(1 - settings[BETA2])
    rate = kind(settings[LEARNING_RATE] * rate_factor(settings, step - 1) / (1 - settings[BETA1] ** step))
    root = kind(math.sqrt(1 - settings[BETA2] ** step))
    for i in range(row.size):  # P, padding included
        gradient = gradients[i] + decay * row[i]
        first[i] += (gradient - first[i]) * gain1
        second[i] = beta2 * second[i] + gain2 * gradient * gradient
        # The bias corrections of both means are in `rate` and `root`.
        row[i] -= rate * first[i] / (np.sqrt(second[i]) / root + epsilon)


@compiled
def load_batch(images: Array, indices: Array, x: Array) -> None:
    """Copy the images (M × 64) at `indices` to the rows of a batch x (B × 64); padded rows become 0."""
    lines = x.reshape(-1, images.shape[1])  # B × 64
    for b in range(indices.size):
        image = images[indices[b]]  # 64
        for d in range(image.size):
            lines[b, d] = image[d]
    lines[indices.size :] = 0


@compiled
def load_copies(bank: Array, copies: Array, numbers: Array, scale: Any, x: Array) -> None:
    """Copy scaled copies of images to the rows of a batch x (B × 64); padded rows become 0.

    Args:
        bank: K × images × 64, uint8.
        copies: The copy's number of each sample.
        numbers: The image's number of each sample.
        scale: What pixels are multiplied by, in float32: the bits are those of `data.to_tensor`.
        x: Output.
    """
    lines = x.reshape(-1, bank.shape[2])  # B × 64
    for b in range(numbers.size):
        image, line = bank[copies[b], numbers[b]], lines[b]  # 64 each
        for d in range(image.size):
            line[d] = np.float32(image[d]) * scale
    lines[numbers.size :] = 0


@compiled
def forward(
    kind: int, row: Array, sizes: Array, starts: Array, rows: int, values: Array,
    has_dropout: bool, factors: Array, dropped: Array,
) -> None:  # fmt: skip
    """The forward pass of a batch: from values[0] (B × 64) through all layers.

    Args:
        kind: The activation, an index into ACTIVATIONS.
        row: The parameters (P).
        sizes: Padded widths, layers + 1: 64, the hidden ones, 16.
        starts: Where each layer's parameters begin in `row`, as in `Layout.starts`.
        rows: B.
        values: Layer n's outputs (B × H) are written to values[n], at its beginning: hidden ones after activation, the
            last one's are the logits (B × 16).
        has_dropout: Whether a hidden layer's outputs are multiplied by `factors` for the next layer.
        factors: B × T, or more rows, from `draw_dropout`; read with dropout only.
        dropped: Receives the products, dropped[n] those of values[n]; written with dropout only. Backpropagation needs
            both: the values for the derivative, the products as the next layer's inputs.
    """
    source, unit, last = values[0], 0, sizes.size - 1  # `unit`: the layer's first column in `factors`
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
