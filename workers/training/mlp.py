"""The network: 64 pixels, hidden layers, 10 classes.

Its gradients are derived by hand: for networks of this size, autograd's bookkeeping costs more than the arithmetic.

B batch, D inputs of a layer, H outputs of a layer, C = 10 classes, P all parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from workers.training import randomness
from workers.training.config import NUM_CLASSES, NUM_PIXELS
from workers.training.randomness import Purpose

Layer = tuple[Tensor, Tensor]  # weights H × D, biases H

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}
# An activation's derivative, from its own value (of a layer before dropout).
DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda value: value * (1.0 - value),
    "tanh": lambda value: 1.0 - value * value,
    "relu": lambda value: (value > 0).to(value.dtype),
}


class Network:
    """Parameters and gradients, each one flat vector (P), so that an optimizer's step is a few operations.

    `layers` and `gradient_layers` are views of them, a pair of weights and biases for each layer.
    """

    def __init__(self, hidden_sizes: Sequence[int], activation: str, device: torch.device) -> None:
        sizes = [NUM_PIXELS, *hidden_sizes, NUM_CLASSES]
        self._shapes = [(outputs, inputs) for inputs, outputs in pairwise(sizes)]
        num_parameters = sum(outputs * inputs + outputs for outputs, inputs in self._shapes)
        self.parameters = torch.zeros(num_parameters, device=device)
        self.gradients = torch.zeros(num_parameters, device=device)
        self.layers = self.views(self.parameters)
        self.gradient_layers = self.views(self.gradients)
        self._activate = ACTIVATIONS[activation]
        self._derive = DERIVATIVES[activation]

    def views(self, flat: Tensor) -> list[Layer]:
        """A flat vector (P) as layers; nothing is copied."""
        layers = []
        start = 0
        for outputs, inputs in self._shapes:
            middle, end = start + outputs * inputs, start + outputs * inputs + outputs
            layers.append((flat[start:middle].view(outputs, inputs), flat[middle:end]))
            start = end
        return layers

    def initialise(self, seed: int) -> None:
        """Fresh weights, the same on every device."""
        stream = randomness.generator(seed, Purpose.INITIAL_WEIGHTS)
        for (outputs, inputs), layer in zip(self._shapes, self.layers, strict=True):
            for parameter, values in zip(layer, randomness.linear_layer(stream, inputs, outputs), strict=True):
                parameter.copy_(torch.from_numpy(values))

    def logits(self, images: Tensor, parameters: Tensor | None = None) -> Tensor:
        """The output before softmax, B × C, dropout off; of other parameters (P) than its own, if given."""
        layers = self.layers if parameters is None else self.views(parameters)
        hidden = images
        for weights, biases in layers[:-1]:
            hidden = self._activate(torch.addmm(biases, hidden, weights.t()))  # B × H
        return torch.addmm(layers[-1][1], hidden, layers[-1][0].t())

    def step(self, images: Tensor, targets: Tensor, factors: Sequence[Tensor], log_probabilities: Tensor) -> None:
        """Forward and backward over a batch: the gradients of its mean cross-entropy.

        Backpropagation as in Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 6.5.

        Args:
            images: B × 64, scaled.
            targets: One-hot labels, B × C.
            factors: Of dropout, B × H for each hidden layer; empty: no dropout.
            log_probabilities: Filled with what the network answered, B × C.
        """
        inputs = [images]  # of each layer
        activations = []  # before dropout
        for number, (weights, biases) in enumerate(self.layers[:-1]):
            value = self._activate(torch.addmm(biases, inputs[-1], weights.t()))
            activations.append(value)
            inputs.append(value * factors[number] if factors else value)
        weights, biases = self.layers[-1]
        torch.log_softmax(torch.addmm(biases, inputs[-1], weights.t()), dim=1, out=log_probabilities)
        delta = log_probabilities.exp().sub_(targets).div_(len(images))  # B × C
        for number in range(len(self.layers) - 1, -1, -1):
            weights_gradient, biases_gradient = self.gradient_layers[number]
            torch.mm(delta.t(), inputs[number], out=weights_gradient)
            torch.sum(delta, dim=0, out=biases_gradient)
            if number > 0:
                delta = torch.mm(delta, self.layers[number][0]).mul_(self._derive(activations[number - 1]))
                if factors:
                    delta.mul_(factors[number - 1])
