"""The engine of batched torch operations: for MPS, CUDA without the fused engine, and a CPU without Numba.

A step is a few matrix products over all runs at once. The gradients are derived by hand: for networks of this size,
autograd's bookkeeping costs more than the arithmetic. The steps of an epoch of at most 256 steps are recorded
once on CUDA as a CUDA graph and then replayed, which is one launch per epoch instead of some thirty per step
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

Shape letters: R runs in the stack, S steps of an epoch, B rows of a batch, padded to a multiple of 4; D inputs and H
outputs of a layer, padded to multiples of 16; C = 10 classes, padded to 16 in the last layer; T hidden units of all
layers together, padded; P parameters of a network; N samples of a split; M images of all datasets, of 64 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from workers.training import randomness
from workers.training.config import NUM_CLASSES
from workers.training.schedule import rate_factors
from workers.training.stack import ACTIVATIONS, Setting, Stack, Tally, clip_bounds
from workers.training.tensors import SplitName

Layer = tuple[Tensor, Tensor]  # weights R × D × H, biases R × 1 × H

ROWS_MULTIPLE = 4  # a batch is padded to a multiple of it
MAX_RECORDED_STEPS = 256  # an epoch of more steps is not recorded: its graph would be large and slow to record
WARM_UP_STEPS = 3  # run before a CUDA graph is recorded: libraries initialize themselves at their first calls
EVALUATED_NUMBERS = 2**23  # pixels that an evaluation gathers at once, as a bound on memory


class BatchedEngine:
    """Trains all slots together. Slots of finished runs are still computed, and their results ignored.

    See `stack.Engine` for the methods.
    """

    name = f"torch {torch.__version__}"

    def __init__(self, stack: Stack) -> None:
        self.threads = torch.get_num_threads()
        self.num_done = 0
        self._stack = stack
        shape, device = stack.shape, stack.parameters.device
        self._device = device
        # Random numbers are drawn where the seeds are. They are the same everywhere, but need 64-bit integers, which
        # not every device has.
        self._seeds = stack.seeds if device.type == "cuda" else stack.seeds.cpu()
        self._layers = _layer_views(stack, stack.parameters)
        self._gradients = _layer_views(stack, stack.gradients)
        self._groups = _activation_groups(stack)
        settings = stack.settings.T[..., None]  # 10 × R × 1
        self._settings = settings.to(stack.parameters.dtype).to(device)
        # 2 × R × 1: 1 - β, computed in float64 before it is rounded.
        betas = settings[[Setting.BETA1, Setting.BETA2]]
        self._gains = (1 - betas).to(stack.parameters.dtype).to(device)
        self._unit_masks = _unit_masks(stack)
        self._one_hot = functional.one_hot(stack.labels, shape.layout.sizes[-1]).to(stack.parameters.dtype)  # M × 16

        # A recorded graph reads and writes fixed addresses. So these tensors hold all inputs of an epoch, step by step,
        # and `_prepare_epoch` overwrites their contents.
        steps, rows, dtype = shape.num_steps, _pad_rows(shape.batch_size), stack.parameters.dtype
        self._orders = torch.zeros(steps, stack.size, rows, dtype=torch.int64, device=device)  # S × R × B
        # Rows of the bank as one matrix (K · images × 64): S × R × B.
        self._places = torch.zeros_like(self._orders) if shape.strength is not None else None
        self._copies = stack.copies.to(self._seeds.device)
        # The learning rate of each step, S × R × 1.
        self._rates = self._settings[Setting.LEARNING_RATE].repeat(steps, 1, 1)
        self._is_nesterov = self._settings[Setting.NESTEROV] > 0  # R × 1
        units = shape.layout.num_hidden if stack.has_dropout else 0
        self._factors = stack.parameters.new_zeros(steps, stack.size, rows, units)  # S × R × B × T
        # Adam's bias corrections 1 - β^t of both means: S × 2 × R × 1.
        self._corrections = stack.parameters.new_ones(steps, 2, stack.size, 1)
        # The log-probabilities of every forward pass, S × R × B × C: losses are summed once per epoch, not per step.
        self._log_probabilities = stack.parameters.new_zeros(*self._orders.shape, NUM_CLASSES)
        # R × B × 16: gradients with respect to the logits. The 6 padded classes stay 0, as in the one-hot labels.
        self._delta = stack.parameters.new_zeros(stack.size, rows, shape.layout.sizes[-1])

        sizes = torch.full((steps, 1), shape.batch_size, device=device)
        # The last batch holds what is left.
        sizes[-1] = shape.num_train - shape.batch_size * (steps - 1)
        self._is_real = torch.arange(rows, device=device) < sizes  # S × B: whether a row is a sample, not padding
        self._shares = self._is_real.to(dtype) / sizes  # S × B: 1 / samples of the batch; 0 for padding
        self._graph: torch.cuda.CUDAGraph | None = None

    @torch.no_grad()
    def train(self, slots: Sequence[int], epoch: int) -> Tally:
        self._prepare_epoch(epoch)
        if self._device.type == "cuda" and self._stack.shape.num_steps <= MAX_RECORDED_STEPS:
            if self._graph is None:
                self._graph = self._record()
            self._graph.replay()
        else:
            self._run_steps(self._stack.shape.num_steps)
        labels = self._stack.labels[self._orders]  # S × R × B
        is_real = self._is_real[:, None]  # S × 1 × B
        label_losses = -self._log_probabilities.gather(3, labels[..., None])[..., 0]  # S × R × B
        is_right = (self._log_probabilities.argmax(dim=3) == labels) & is_real
        # S × R × B to R × (S·B), summed to R. `where` rather than a product: 0 · NaN would be NaN.
        losses, corrects = (
            each.transpose(0, 1).flatten(1).sum(dim=1) for each in (torch.where(is_real, label_losses, 0), is_right)
        )
        return _tally(losses, corrects, slots)

    @torch.no_grad()
    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        stack = self._stack
        num_samples = stack.rows[split].shape[1]
        # R × N, N padded with the index 0: the padding's results are cut off below.
        indices = functional.pad(stack.rows[split], (0, _pad_rows(num_samples) - num_samples))
        lowest, highest = clip_bounds(stack.parameters.dtype)
        at_once = max(1, EVALUATED_NUMBERS // (indices.shape[1] * stack.images.shape[1]))
        losses, corrects = [], []
        for start in range(0, stack.size, at_once):  # some slots of R at a time
            part = slice(start, start + at_once)
            layers = [(weights[part], biases[part]) for weights, biases in self._layers]
            logits = self._answer(start, layers, stack.images[indices[part]])
            labels = stack.labels[indices[part]]
            # cross_entropy takes the classes as the second dimension: R × C × N gives R × N.
            sample_losses = functional.cross_entropy(logits.movedim(2, 1), labels, reduction="none")
            losses.append(sample_losses[:, :num_samples].clamp(lowest, highest).sum(dim=1))
            corrects.append((logits.argmax(dim=2) == labels)[:, :num_samples].sum(dim=1))
            self.num_done += 1
        return _tally(torch.cat(losses), torch.cat(corrects), slots)

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        # Squares are slots × P, in numpy and float64; reduceat sums each layer's stretch of a row: slots × layers.
        starts = self._stack.shape.layout.starts[:-1]
        gradients, weights = (
            np.sqrt(np.add.reduceat(np.square(matrix[list(slots)].cpu().numpy(), dtype=np.float64), starts, axis=1))
            for matrix in (self._stack.gradients, self._stack.parameters)
        )
        return gradients, weights

    @torch.no_grad()
    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        images = self._stack.images[self._stack.rows[split][slot]]  # N × 64
        layers = _layer_views(self._stack, parameters[None])
        answered: npt.NDArray[np.floating] = self._answer(slot, layers, images[None])[0].cpu().numpy()
        return answered

    def _prepare_epoch(self, epoch: int) -> None:
        """Write an epoch's data order, copies, dropout and rates into the tensors that its steps read."""
        stack, shape = self._stack, self._stack.shape
        rows = stack.rows["train"]
        copies = None  # R × N: the copy of each sample
        if self._places is not None:
            copies = randomness.copy_numbers(self._seeds, epoch, shape.num_train, self._copies).to(self._device)
        if shape.batch_size < shape.num_train:  # a full batch is one sum over all samples: no order is drawn
            order = randomness.data_orders(self._seeds, epoch, shape.num_train).to(self._device)
            rows = rows.gather(1, order)
            copies = None if copies is None else copies.gather(1, order)
        steps, batch_size = shape.num_steps, shape.batch_size
        self._orders[:, :, :batch_size] = _in_steps(rows, steps, batch_size)
        if self._places is not None and copies is not None:
            places = copies * stack.bank.shape[1] + rows - stack.first_rows[:, None]
            self._places[:, :, :batch_size] = _in_steps(places, steps, batch_size)
        if self._factors.numel():
            lanes = randomness.dropout_lanes(self._seeds, epoch, steps, batch_size, shape.layout.num_hidden)
            is_kept = lanes.to(self._device) >= stack.thresholds[:, None, None, None]  # R × S × batch size × T
            factors = is_kept * self._settings[Setting.KEEP_SCALE][..., None, None]  # inverted dropout
            self._factors[:, :, :batch_size] = factors.transpose(0, 1)
        numbers = (epoch - 1) * steps + np.arange(steps)  # S: steps since the training began, from 0
        if stack.has_schedule:
            rates, warmups, totals = (
                stack.settings.numpy()[:, column]  # R
                for column in (Setting.LEARNING_RATE, Setting.WARMUP_STEPS, Setting.TOTAL_STEPS)
            )
            rates = rates * rate_factors(numbers, warmups, totals)  # S × R, in float64 before it is rounded
            self._rates.copy_(torch.from_numpy(rates[..., None]).to(self._rates.dtype))
        if shape.is_adam:
            betas = stack.settings[:, [Setting.BETA1, Setting.BETA2]].numpy().T  # 2 × R
            # S × 2 × R × 1, in float64 before it is rounded
            corrections = 1 - betas[None, :, :, None] ** (numbers + 1)[:, None, None, None]
            self._corrections.copy_(torch.from_numpy(corrections).to(self._corrections.dtype))

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record an epoch's steps as a CUDA graph; nothing is trained by it.

        The warm-up does train, on a stream of its own, as torch's documentation of CUDA graphs asks; so parameters and
        optimizer state are copied before and restored after it.
        """
        state = (self._stack.parameters, self._stack.first, self._stack.second)
        before = [tensor.clone() for tensor in state]
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._run_steps(min(WARM_UP_STEPS, self._stack.shape.num_steps))
        torch.cuda.current_stream().wait_stream(stream)
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run_steps(self._stack.shape.num_steps)
        return graph

    def _run_steps(self, num_steps: int) -> None:
        for step in range(num_steps):
            self._backpropagate(step)
            self._update(step)
            self.num_done += 1

    def _backpropagate(self, step: int) -> None:
        """Compute the gradients of each run's mean cross-entropy over its batch.

        Backpropagation as in I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning", 2016, section 6.5. No
        branch here depends on a number on the device, so a CUDA graph can record all of it.
        """
        indices = self._orders[step]  # R × B
        inputs = [self._load(step)]  # of each layer: R × B × D
        values = []  # of each hidden layer, after activation, before dropout: R × B × H
        # R × B × T, split by layer
        factors = (
            torch.split(self._factors[step], list(self._stack.shape.layout.hidden_sizes), dim=2)
            if self._factors.numel()
            else ()
        )
        for number, (weights, biases) in enumerate(self._layers[:-1]):
            value = torch.baddbmm(biases, inputs[-1], weights)  # R × 1 × H + R × B × D · R × D × H
            self._activate(value)
            if self._unit_masks is not None:
                value.mul_(self._unit_masks[number])
            values.append(value)
            inputs.append(value * factors[number] if factors else value)
        weights, biases = self._layers[-1]
        logits = torch.baddbmm(biases, inputs[-1], weights)[:, :, :NUM_CLASSES]
        log_probabilities = torch.log_softmax(logits, dim=2, out=self._log_probabilities[step])
        # Gradients with respect to the logits: (softmax - one-hot label) / samples of the batch (cf. C. M. Bishop,
        # "Pattern Recognition and Machine Learning", 2006, equation 4.109).
        torch.exp(log_probabilities, out=self._delta[:, :, :NUM_CLASSES])
        delta = self._delta.sub_(self._one_hot[indices]).mul_(self._shares[step][:, None])
        for number in range(len(self._layers) - 1, -1, -1):
            weights_gradient, biases_gradient = self._gradients[number]
            torch.bmm(inputs[number].mT, delta, out=weights_gradient)  # R × D × B · R × B × H
            torch.sum(delta, dim=1, keepdim=True, out=biases_gradient)  # R × 1 × H
            if number > 0:
                delta = torch.bmm(delta, self._layers[number][0].mT)  # R × B × H · R × H × D
                self._multiply_by_derivative(delta, values[number - 1])
                if factors:
                    delta.mul_(factors[number - 1])

    def _load(self, step: int) -> Tensor:
        """A step's images, or the copies of them that the epoch draws: R × B × D."""
        stack = self._stack
        if self._places is None:
            return stack.images[self._orders[step]]
        pixels = stack.bank.flatten(0, 1)[self._places[step]]
        # Scaled in float32, as `data.to_tensor` does it: the same bits.
        return (pixels.float() * stack.scales[:, None, None]).to(stack.parameters.dtype)

    def _update(self, step: int) -> None:
        """One step of torch.optim's SGD or Adam on all parameters (R × P), for each run by its own settings (R × 1).

        The formulas and their sources are those of `kernels.step_sgd` and `kernels.step_adam`.
        """
        stack = self._stack
        rate = self._rates[step]  # R × 1
        gradients = torch.addcmul(stack.gradients, self._settings[Setting.WEIGHT_DECAY], stack.parameters)
        if not stack.shape.is_adam:
            stack.first.mul_(self._settings[Setting.MOMENTUM]).add_(gradients)
            direction = stack.first
            if stack.has_nesterov:
                ahead = gradients + self._settings[Setting.MOMENTUM] * stack.first
                direction = torch.where(self._is_nesterov, ahead, stack.first)
            stack.parameters.sub_(rate * direction)
            return
        stack.first.lerp_(gradients, self._gains[0])
        stack.second.mul_(self._settings[Setting.BETA2]).add_(self._gains[1] * gradients * gradients)
        correction1, correction2 = self._corrections[step]  # R × 1 each
        root = (stack.second / correction2).sqrt_().add_(self._settings[Setting.EPSILON])
        stack.parameters.sub_(rate / correction1 * stack.first / root)

    def _answer(self, first_slot: int, layers: Sequence[Layer], images: Tensor) -> Tensor:
        """Forward pass, dropout off: logits (R × N × C) of the runs in slots from `first_slot` on.

        `layers` and `images` (R × N × 64) are those of these runs alone.
        """
        hidden = images
        for weights, biases in layers[:-1]:
            hidden = torch.baddbmm(biases, hidden, weights)
            self._activate(hidden, first_slot)
        weights, biases = layers[-1]
        return torch.baddbmm(biases, hidden, weights)[:, :, :NUM_CLASSES]

    def _activate(self, values: Tensor, first_slot: int = 0) -> None:
        """Apply each run's activation in place to values (R × B × H) of the runs in slots from `first_slot` on."""
        for activation, start, end in self._groups:
            # The group's slots as rows of `values`; empty when none of them is there.
            group = values[max(start - first_slot, 0) : max(end - first_slot, 0)]
            if activation == "sigmoid":
                group.sigmoid_()
            elif activation == "tanh":
                group.tanh_()
            else:
                group.relu_()

    def _multiply_by_derivative(self, deltas: Tensor, values: Tensor) -> None:
        """Multiply deltas in place by the activations' derivatives, computed from their outputs; R × B × H both."""
        for activation, start, end in self._groups:
            delta, value = deltas[start:end], values[start:end]
            if activation == "sigmoid":
                delta.mul_(value * (1 - value))
            elif activation == "tanh":
                delta.mul_(1 - value * value)
            else:
                delta.mul_(value > 0)


def _in_steps(values: Tensor, num_steps: int, batch_size: int) -> Tensor:
    """R × N as S × R × batch size; the last batch is filled up with 0, and these rows have a share of 0."""
    padded = functional.pad(values, (0, num_steps * batch_size - values.shape[1]))
    return padded.view(-1, num_steps, batch_size).transpose(0, 1)


def _pad_rows(count: int) -> int:
    """Round up to a multiple of 4.

    torch computes the last few numbers of a tensor one by one rather than as vectors, and a sigmoid can then differ in
    a bit. Rows in multiples of 4 and widths in multiples of 16 keep a run's numbers out of those last few, in any slot.
    """
    return -(-count // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _layer_views(stack: Stack, rows: Tensor) -> list[Layer]:
    """Each layer's weights (R × D × H) and biases (R × 1 × H) as views of rows of parameters (R × P)."""
    layout = stack.shape.layout
    views = []
    for start, (inputs, outputs) in zip(layout.starts, pairwise(layout.sizes), strict=False):
        end = start + inputs * outputs
        views.append((rows[:, start:end].view(-1, inputs, outputs), rows[:, None, end : end + outputs]))
    return views


def _activation_groups(stack: Stack) -> list[tuple[str, int, int]]:
    """Neighbouring slots with the same activation: its name, the first slot, the one after the last.

    A stack is ordered by activation, so there are at most three groups.
    """
    groups = []
    start = 0
    for activation, slots in groupby(stack.activations.tolist()):
        end = start + len(list(slots))
        groups.append((ACTIVATIONS[activation], start, end))
        start = end
    return groups


def _unit_masks(stack: Stack) -> list[Tensor] | None:
    """One mask (R × 1 × H) a hidden layer: 0 at a padded unit, else 1. None if padded units are 0 anyway.

    Sigmoid is the only activation that does not turn 0 into 0 but into 0.5. The weights that lead on from a padded unit
    are 0, but with a value of 0.5 their gradients would not be.
    """
    sizes = stack.shape.layout.hidden_sizes
    is_padded = stack.widths[:, 1:-1] < torch.tensor(sizes, device=stack.widths.device)
    is_sigmoid = stack.activations == ACTIVATIONS.index("sigmoid")
    if not (is_padded & is_sigmoid[:, None]).any():
        return None
    units = [torch.arange(size, device=stack.widths.device) for size in sizes]
    return [
        (unit < stack.widths[:, number, None, None]).to(stack.parameters.dtype)
        for number, unit in enumerate(units, start=1)
    ]


def _tally(losses: Tensor, corrects: Tensor, slots: Sequence[int]) -> Tally:
    """The tally of some slots, from sums over all (R each).

    Each tensor is copied from the GPU once: each copy waits for all work that was queued before it.
    """
    chosen = list(slots)
    return Tally(losses.cpu().double().numpy()[chosen], corrects.cpu().numpy()[chosen])
