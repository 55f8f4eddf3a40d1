"""An engine of batched torch operations: for GPUs, and for a CPU without Numba.

A step is a few matrix products over all runs at once, with gradients derived by hand: for networks of this size,
autograd's bookkeeping costs more than the arithmetic. On CUDA an epoch's steps are recorded once, as a CUDA graph, and
replayed: one launch an epoch instead of some thirty a step
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

R runs, S steps of an epoch, B batch, D inputs and H outputs of a layer, C = 10 classes, T hidden units, N samples of a
split, M images of all datasets; widths are padded.
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
from workers.training.stack import ACTIVATIONS, Setting, Stack, Tally, clip_bounds
from workers.training.tensors import SplitName

Layer = tuple[Tensor, Tensor]  # weights R × D × H, biases R × 1 × H

ROWS_MULTIPLE = 4  # to which a batch is padded
MAX_RECORDED_STEPS = 256  # beyond, a graph would be large and slow to record
WARM_UP_STEPS = 3  # before a CUDA graph is recorded: libraries set themselves up at their first calls
EVALUATED_NUMBERS = 2**23  # pixels that are gathered at once


class BatchedEngine:
    """Trains all runs of a stack in step; those that have left are computed along, and nobody looks at them."""

    name = f"torch {torch.__version__}"

    def __init__(self, stack: Stack) -> None:
        self.threads = torch.get_num_threads()
        self.num_done = 0
        self._stack = stack
        shape, device = stack.shape, stack.parameters.device
        self._device = device
        # Where random numbers are drawn; they are the same everywhere, but not every device has 64-bit integers.
        self._seeds = stack.seeds if device.type == "cuda" else stack.seeds.cpu()
        self._layers = _layer_views(stack, stack.parameters)
        self._gradients = _layer_views(stack, stack.gradients)
        self._groups = _activation_groups(stack)
        settings = stack.settings.T[..., None]  # 7 × R × 1
        self._settings = settings.to(stack.parameters.dtype).to(device)
        betas = settings[[Setting.BETA1, Setting.BETA2]]
        self._gains = (1 - betas).to(stack.parameters.dtype).to(device)
        self._unit_masks = _unit_masks(stack)
        self._one_hot = functional.one_hot(stack.labels, shape.layout.sizes[-1]).to(stack.parameters.dtype)  # M × 16

        # What changes from epoch to epoch lies at fixed places, where a recorded graph finds it, step after step.
        steps, rows, dtype = shape.num_steps, _pad_rows(shape.batch_size), stack.parameters.dtype
        self._orders = torch.zeros(steps, stack.size, rows, dtype=torch.int64, device=device)  # S × R × B
        units = shape.layout.num_hidden if stack.has_dropout else 0
        self._factors = stack.parameters.new_zeros(steps, stack.size, rows, units)  # S × R × B × T
        self._corrections = stack.parameters.new_ones(steps, 2, stack.size, 1)  # of Adam's two means
        # What the networks answered, S × R × B × C: looked at once an epoch, not at every step.
        self._log_probabilities = stack.parameters.new_zeros(*self._orders.shape, NUM_CLASSES)
        self._delta = stack.parameters.new_zeros(stack.size, rows, shape.layout.sizes[-1])  # R × B × 16

        sizes = torch.full((steps, 1), shape.batch_size, device=device)
        sizes[-1] = shape.num_train - shape.batch_size * (steps - 1)
        self._is_real = torch.arange(rows, device=device) < sizes  # S × B: not padding
        self._shares = self._is_real.to(dtype) / sizes  # S × B: a sample's share of its batch
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
        is_real = self._is_real[:, None]
        label_losses = -self._log_probabilities.gather(3, labels[..., None])[..., 0]
        is_right = (self._log_probabilities.argmax(dim=3) == labels) & is_real
        losses, corrects = (
            each.transpose(0, 1).flatten(1).sum(dim=1) for each in (torch.where(is_real, label_losses, 0), is_right)
        )
        return _tally(losses, corrects, slots)

    @torch.no_grad()
    def evaluate(self, slots: Sequence[int], split: SplitName) -> Tally:
        stack = self._stack
        num_samples = stack.rows[split].shape[1]
        indices = functional.pad(stack.rows[split], (0, _pad_rows(num_samples) - num_samples))
        lowest, highest = clip_bounds(stack.parameters.dtype)
        at_once = max(1, EVALUATED_NUMBERS // (indices.shape[1] * stack.images.shape[1]))
        losses, corrects = [], []
        for start in range(0, stack.size, at_once):
            part = slice(start, start + at_once)
            layers = [(weights[part], biases[part]) for weights, biases in self._layers]
            logits = self._answer(start, layers, stack.images[indices[part]])
            labels = stack.labels[indices[part]]
            sample_losses = functional.cross_entropy(logits.movedim(2, 1), labels, reduction="none")  # R × N
            losses.append(sample_losses[:, :num_samples].clamp(lowest, highest).sum(dim=1))
            corrects.append((logits.argmax(dim=2) == labels)[:, :num_samples].sum(dim=1))
            self.num_done += 1
        return _tally(torch.cat(losses), torch.cat(corrects), slots)

    def norms(self, slots: Sequence[int]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        starts = self._stack.shape.layout.starts[:-1]
        gradients, weights = (
            np.sqrt(np.add.reduceat(np.square(matrix[list(slots)].cpu().numpy(), dtype=np.float64), starts, axis=1))
            for matrix in (self._stack.gradients, self._stack.parameters)
        )
        return gradients, weights

    @torch.no_grad()
    def logits(self, slot: int, parameters: Tensor, split: SplitName) -> npt.NDArray[np.floating]:
        images = self._stack.images[self._stack.rows[split][slot]]
        layers = _layer_views(self._stack, parameters[None])
        answered: npt.NDArray[np.floating] = self._answer(slot, layers, images[None])[0].cpu().numpy()
        return answered

    def _prepare_epoch(self, epoch: int) -> None:
        """Data order, dropout and Adam's bias corrections of an epoch."""
        stack, shape = self._stack, self._stack.shape
        rows = stack.rows["train"]
        if shape.batch_size < shape.num_train:
            order = randomness.data_orders(self._seeds, epoch, shape.num_train).to(self._device)
            rows = rows.gather(1, order)
        steps, batch_size = shape.num_steps, shape.batch_size
        padded = functional.pad(rows, (0, steps * batch_size - shape.num_train)).view(-1, steps, batch_size)
        self._orders[:, :, :batch_size] = padded.transpose(0, 1)
        if self._factors.numel():
            lanes = randomness.dropout_lanes(self._seeds, epoch, steps, batch_size, shape.layout.num_hidden)
            is_kept = lanes.to(self._device) >= stack.thresholds[:, None, None, None]  # R × S × B × T
            factors = is_kept * self._settings[Setting.KEEP_SCALE][..., None, None]
            self._factors[:, :, :batch_size] = factors.transpose(0, 1)
        if shape.is_adam:
            betas = stack.settings[:, [Setting.BETA1, Setting.BETA2]].numpy().T  # 2 × R
            numbers = (epoch - 1) * steps + np.arange(1, steps + 1)
            corrections = 1 - betas[None, :, :, None] ** numbers[:, None, None, None]
            self._corrections.copy_(torch.from_numpy(corrections).to(self._corrections.dtype))

    def _record(self) -> torch.cuda.CUDAGraph:
        """An epoch's steps as a graph. The warm-up trains for real, so the state is put back afterwards."""
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
        """The gradients of each run's mean cross-entropy over its batch.

        Backpropagation as in I. Goodfellow, Y. Bengio and A. Courville, "Deep Learning", 2016, section 6.5.
        """
        indices = self._orders[step]  # R × B
        inputs = [self._stack.images[indices]]  # of each layer: R × B × D
        values = []  # of each hidden layer, before dropout
        factors = (
            torch.split(self._factors[step], list(self._stack.shape.layout.hidden_sizes), dim=2)
            if self._factors.numel()
            else ()
        )
        for number, (weights, biases) in enumerate(self._layers[:-1]):
            value = torch.baddbmm(biases, inputs[-1], weights)
            self._activate(value)
            if self._unit_masks is not None:
                value.mul_(self._unit_masks[number])
            values.append(value)
            inputs.append(value * factors[number] if factors else value)
        weights, biases = self._layers[-1]
        logits = torch.baddbmm(biases, inputs[-1], weights)[:, :, :NUM_CLASSES]
        log_probabilities = torch.log_softmax(logits, dim=2, out=self._log_probabilities[step])
        torch.exp(log_probabilities, out=self._delta[:, :, :NUM_CLASSES])
        delta = self._delta.sub_(self._one_hot[indices]).mul_(self._shares[step][:, None])
        for number in range(len(self._layers) - 1, -1, -1):
            weights_gradient, biases_gradient = self._gradients[number]
            torch.bmm(inputs[number].mT, delta, out=weights_gradient)
            torch.sum(delta, dim=1, keepdim=True, out=biases_gradient)
            if number > 0:
                delta = torch.bmm(delta, self._layers[number][0].mT)
                self._multiply_by_derivative(delta, values[number - 1])
                if factors:
                    delta.mul_(factors[number - 1])

    def _update(self, step: int) -> None:
        """A step of torch.optim's SGD or Adam, for each run by its own settings."""
        stack = self._stack
        rate = self._settings[Setting.LEARNING_RATE]
        gradients = torch.addcmul(stack.gradients, self._settings[Setting.WEIGHT_DECAY], stack.parameters)
        if not stack.shape.is_adam:
            stack.first.mul_(self._settings[Setting.MOMENTUM]).add_(gradients)
            stack.parameters.sub_(rate * stack.first)
            return
        stack.first.lerp_(gradients, self._gains[0])
        stack.second.mul_(self._settings[Setting.BETA2]).add_(self._gains[1] * gradients * gradients)
        correction1, correction2 = self._corrections[step]
        root = (stack.second / correction2).sqrt_().add_(self._settings[Setting.EPSILON])
        stack.parameters.sub_(rate / correction1 * stack.first / root)

    def _answer(self, first_slot: int, layers: Sequence[Layer], images: Tensor) -> Tensor:
        """Logits (R × N × C) of the runs from a slot on, dropout off; layers and images (R × N × D) are theirs."""
        hidden = images
        for weights, biases in layers[:-1]:
            hidden = torch.baddbmm(biases, hidden, weights)
            self._activate(hidden, first_slot)
        weights, biases = layers[-1]
        return torch.baddbmm(biases, hidden, weights)[:, :, :NUM_CLASSES]

    def _activate(self, values: Tensor, first_slot: int = 0) -> None:
        """Apply each run's activation in place; the runs in slots from the first one on are R × N × H."""
        for activation, start, end in self._groups:
            group = values[max(start - first_slot, 0) : max(end - first_slot, 0)]
            if activation == "sigmoid":
                group.sigmoid_()
            elif activation == "tanh":
                group.tanh_()
            else:
                group.relu_()

    def _multiply_by_derivative(self, deltas: Tensor, values: Tensor) -> None:
        """Multiply by each activation's derivative, taken from its own values."""
        for activation, start, end in self._groups:
            delta, value = deltas[start:end], values[start:end]
            if activation == "sigmoid":
                delta.mul_(value * (1 - value))
            elif activation == "tanh":
                delta.mul_(1 - value * value)
            else:
                delta.mul_(value > 0)


def _pad_rows(count: int) -> int:
    """To a multiple: torch computes the last few numbers of a tensor one by one, and sigmoids then differ in a bit.

    With it, and with widths that are multiples of 16, a run's numbers never are among those few, in any slot.
    """
    return -(-count // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _layer_views(stack: Stack, rows: Tensor) -> list[Layer]:
    """Views of rows of parameters (R × P): each layer's weights, R × D × H, and biases, R × 1 × H."""
    layout = stack.shape.layout
    views = []
    for start, (inputs, outputs) in zip(layout.starts, pairwise(layout.sizes), strict=False):
        end = start + inputs * outputs
        views.append((rows[:, start:end].view(-1, inputs, outputs), rows[:, None, end : end + outputs]))
    return views


def _activation_groups(stack: Stack) -> list[tuple[str, int, int]]:
    """Runs of slots with the same activation: its name, the first slot, the one after the last."""
    groups = []
    start = 0
    for activation, slots in groupby(stack.activations.tolist()):
        end = start + len(list(slots))
        groups.append((ACTIVATIONS[activation], start, end))
        start = end
    return groups


def _unit_masks(stack: Stack) -> list[Tensor] | None:
    """For each hidden layer, R × 1 × H: 0 at a padded unit, else 1. None if padded units are 0 anyway.

    Only a sigmoid makes something of nothing, 0.5; its weights are 0, but the gradients of them would not be.
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
    """The values of some slots, read once: reading a value on a GPU waits for all that was queued before it."""
    chosen = list(slots)
    return Tally(losses.cpu().double().numpy()[chosen], corrects.cpu().numpy()[chosen])
