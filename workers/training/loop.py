"""The training loop of one network, resumable at any epoch boundary.

B batch, H outputs of a layer, N samples, C = 10 classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from workers.training import randomness
from workers.training.checkpoint import Array, Checkpoint
from workers.training.config import NUM_CLASSES, MlpConfig, OptimizerConfig, is_due
from workers.training.evaluation import Best, EarlyStopping, Metrics, Probabilities, Score
from workers.training.mlp import Layer, Network
from workers.training.randomness import Purpose
from workers.training.result import Diverged, MlpModel, Result
from workers.training.tensors import SplitTensors


class MlpTraining:
    """One network in training."""

    def __init__(self, config: MlpConfig, data: SplitTensors) -> None:
        device = data.train_images.device
        self.config = config
        self.epoch = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self._latest: Best | None = None
        self._data = data
        self._targets = functional.one_hot(data.train_labels, NUM_CLASSES).float()
        self._log_probabilities = torch.empty_like(self._targets)  # of the epoch's samples, in its order
        self._network = Network(config.hidden_sizes, config.activation, device)
        self._network.initialise(config.seed)
        self._network.parameters.grad = self._network.gradients
        self._best_parameters = self._network.parameters.clone()
        self._optimizer = _make_optimizer(config.optimizer, self._network.parameters)
        self._stopping = EarlyStopping(config.early_stopping) if config.early_stopping else None
        self._has_stopped = False
        self._is_best_saved = True

    @property
    def is_finished(self) -> bool:
        return self._has_stopped or self.epoch == self.config.epochs

    def run_epoch(self) -> Metrics | None:
        """Train for one epoch; returns its metrics if it is due for evaluation.

        Raises:
            Diverged: A loss is not finite.
        """
        started = time.perf_counter()
        self.epoch += 1
        seen = self._train()
        metrics = self._evaluate(seen) if self._is_due() else None
        self.seconds += time.perf_counter() - started
        return metrics

    @torch.no_grad()
    def _train(self) -> Score:
        """One pass over the train split; returns what was seen on the way."""
        images, targets = self._data.train_images, self._targets
        num_samples = len(targets)
        batch_size = min(self.config.batch_size or num_samples, num_samples)
        if batch_size < num_samples:
            order = torch.from_numpy(randomness.data_order(self.config.seed, self.epoch, num_samples))
            order = order.to(images.device)
            images, targets = images[order], targets[order]
        factors = [torch.split(layer, batch_size) for layer in self._dropout_factors(num_samples)]
        batches = zip(
            torch.split(images, batch_size),
            torch.split(targets, batch_size),
            zip(*factors, strict=True) if factors else repeat(()),
            torch.split(self._log_probabilities, batch_size),
            strict=False,  # without dropout, the empty factors repeat for ever
        )
        for batch in batches:
            self._network.step(*batch)
            self._optimizer.step()
        # Read once an epoch: reading a value on a GPU waits for all that was queued before it.
        loss = -(self._log_probabilities * targets).sum().item() / num_samples
        is_right = self._log_probabilities.argmax(dim=1) == targets.argmax(dim=1)
        return self._finite(Score(loss, is_right.sum().item() / num_samples))

    def _dropout_factors(self, num_samples: int) -> list[Tensor]:
        """For each hidden layer, N × H factors for this epoch; none without dropout."""
        if self.config.dropout == 0:
            return []
        stream = randomness.generator(self.config.seed, Purpose.DROPOUT, self.epoch)
        device = self._data.train_images.device
        return [
            torch.from_numpy(randomness.dropout_factors(stream, self.config.dropout, (num_samples, width))).to(device)
            for width in self.config.hidden_sizes
        ]

    def _is_due(self) -> bool:
        return is_due(self.epoch, evaluate_every=self.config.evaluate_every, epochs=self.config.epochs)

    @torch.no_grad()
    def _evaluate(self, seen: Score) -> Metrics:
        train = self._score(self._data.train_images, self._data.train_labels)
        val = self._score(self._data.val_images, self._data.val_labels)
        network = self._network
        norms = _norms(network.gradient_layers), _norms(network.layers)
        metrics = Metrics(self.epoch, *seen, *train, *val, *norms, self.seconds)
        self._latest = Best.of(metrics)
        if self.best is None or self.best.is_beaten_by(self._latest):
            self.best = self._latest
            self._best_parameters.copy_(network.parameters)
            self._is_best_saved = False
        if self._stopping is not None:
            self._has_stopped = self._stopping.should_stop(self._latest)
        return metrics

    def _score(self, images: Tensor, labels: Tensor) -> Score:
        outputs = self._network.logits(images)
        loss = functional.cross_entropy(outputs, labels).item()
        return self._finite(Score(loss, (outputs.argmax(dim=1) == labels).sum().item() / len(labels)))

    def _finite(self, score: Score) -> Score:
        if not math.isfinite(score.loss):
            raise Diverged(f"The loss is {score.loss} at epoch {self.epoch}; a lower learning rate may help.")
        return score

    def checkpoints(self) -> dict[str, bytes]:
        """The state by role: `last`, to resume from, and `best`, its weights alone, if new since the last call."""
        values = {
            "config": asdict(self.config),
            "seconds": self.seconds,
            "has_stopped": self._has_stopped,
            "best": _as_dict(self.best),
            "latest": _as_dict(self._latest),
            "stopping_reference": _as_dict(self._stopping.reference if self._stopping else None),
        }
        state = self._optimizer.state[self._network.parameters]
        optimizer = {f"optimizer.{key}": _array(value) for key, value in state.items() if isinstance(value, Tensor)}
        arrays = self._layer_arrays(self._network.parameters) | optimizer
        found = {"last": Checkpoint(self.epoch, arrays, values).to_bytes()}
        if self.best is not None and not self._is_best_saved:
            best = Checkpoint(self.best.epoch, self._layer_arrays(self._best_parameters), {"config": values["config"]})
            found["best"] = best.to_bytes()
            self._is_best_saved = True
        return found

    @torch.no_grad()
    def restore(self, last: bytes, best: bytes | None) -> None:
        """Go on from checkpoints of the same configuration, exactly as if there had been no interruption."""
        checkpoint = Checkpoint.from_bytes(last)
        self.epoch = checkpoint.epoch
        self.seconds = checkpoint.values["seconds"]
        self._has_stopped = checkpoint.values["has_stopped"]
        self.best = _as_best(checkpoint.values["best"])
        self._latest = _as_best(checkpoint.values["latest"])
        if self._stopping is not None:
            self._stopping.reference = _as_best(checkpoint.values["stopping_reference"])
        for name, parameter in self._named_layers(self._network.parameters):
            parameter.copy_(torch.from_numpy(checkpoint.arrays[name]))
        state = self._optimizer.state[self._network.parameters]
        for name, array in checkpoint.arrays.items():
            if name.startswith("optimizer."):
                state[name.removeprefix("optimizer.")] = torch.from_numpy(array.copy()).to(
                    self._network.parameters.device
                )
        if best is not None:
            arrays = Checkpoint.from_bytes(best).arrays
            for name, parameter in self._named_layers(self._best_parameters):
                parameter.copy_(torch.from_numpy(arrays[name]))

    @torch.no_grad()
    def result(self) -> Result:
        """The finished network: the best epoch's weights or the last one's, as the configuration says."""
        keeps_best = self.config.keep == "best"
        parameters = self._best_parameters if keeps_best else self._network.parameters
        chosen = self.best if keeps_best else self._latest
        assert chosen is not None, "the last epoch is always evaluated"
        test_probabilities = test_accuracy = None
        if len(self._data.test_labels):
            test_probabilities = self._probabilities(parameters, self._data.test_images)
            test_accuracy = float((test_probabilities.argmax(axis=1) == self._data.test_labels.cpu().numpy()).mean())
        layers = [(_array(weights), _array(biases)) for weights, biases in self._network.views(parameters)]
        return Result(
            MlpModel(layers, self.config.activation),
            parameters.numel(),
            chosen,
            self._probabilities(parameters, self._data.val_images),
            test_probabilities,
            test_accuracy,
        )

    def _probabilities(self, parameters: Tensor, images: Tensor) -> Probabilities:
        probabilities: Probabilities = functional.softmax(self._network.logits(images, parameters), dim=1).cpu().numpy()
        return probabilities

    def _named_layers(self, parameters: Tensor) -> list[tuple[str, Tensor]]:
        """Views of all parameters by their names in a checkpoint: `weights1`, `biases1`, `weights2` and so on."""
        return [
            (f"{kind}{number}", parameter)
            for number, layer in enumerate(self._network.views(parameters), start=1)
            for kind, parameter in zip(("weights", "biases"), layer, strict=True)
        ]

    def _layer_arrays(self, parameters: Tensor) -> dict[str, Array]:
        return {name: _array(parameter) for name, parameter in self._named_layers(parameters)}


def _make_optimizer(config: OptimizerConfig, parameters: Tensor) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    is_fused = parameters.device.type in ("cpu", "cuda")
    if config.kind == "sgd":
        return torch.optim.SGD([parameters], lr=rate, momentum=config.momentum, weight_decay=decay, fused=is_fused)
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam([parameters], lr=rate, betas=betas, eps=config.epsilon, weight_decay=decay, fused=is_fused)


def _norms(layers: Sequence[Layer]) -> list[float]:
    """Euclidean norm of each layer, its weights and biases taken together."""
    squares = torch.stack([weights.square().sum() + biases.square().sum() for weights, biases in layers])
    norms: list[float] = squares.sqrt().tolist()
    return norms


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """A copy on the CPU that later steps do not change."""
    return tensor.detach().cpu().numpy().copy()


def _as_dict(best: Best | None) -> dict[str, Any] | None:
    return None if best is None else asdict(best)


def _as_best(values: dict[str, Any] | None) -> Best | None:
    return None if values is None else Best(**values)
