"""Training without a database: gradients, exact resume, forests, exports."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from torch.nn import functional

from workers.training import export
from workers.training.config import ForestConfig, MlpConfig, OptimizerConfig, StoppingConfig
from workers.training.data import Scaling, SplitData, load_dataset, split_indices, to_tensors
from workers.training.forest import ForestTraining
from workers.training.loop import MlpTraining
from workers.training.mlp import ACTIVATIONS, Network
from workers.training.result import Diverged, MlpModel, Result

CPU = torch.device("cpu")
SEED = 20231110
CONFIG = MlpConfig(
    seed=3,
    hidden_sizes=(16, 12),
    activation="tanh",
    dropout=0.25,
    optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9),
    batch_size=64,
    epochs=8,
    evaluate_every=1,
)


@pytest.fixture(scope="module")
def data() -> SplitData:
    pixels, labels = load_dataset("digits")
    return SplitData.of(pixels, labels, split_indices(labels, val_size=0.3, test_size=0.0, seed=SEED))


def _train(config: MlpConfig, data: SplitData, scaling: Scaling = "unit") -> MlpTraining:
    training = MlpTraining(config, to_tensors(data, scaling, CPU))
    while not training.is_finished:
        training.run_epoch()
    return training


def _same(one: Result, other: Result) -> bool:
    assert isinstance(one.model, MlpModel)
    assert isinstance(other.model, MlpModel)
    pairs = zip(one.model.layers, other.model.layers, strict=True)
    return one.chosen == other.chosen and all(
        np.array_equal(mine, yours) for pair in pairs for mine, yours in zip(*pair, strict=True)
    )


def test_the_split_is_the_notebook_s() -> None:
    _, labels = load_dataset("digits")
    everything = np.arange(len(labels))
    train, val = train_test_split(everything, test_size=0.3, random_state=SEED, stratify=labels)
    made = split_indices(labels, val_size=0.3, test_size=0.0, seed=SEED)
    assert (len(train), len(val)) == (1257, 540)
    assert np.array_equal(made.train, train)
    assert np.array_equal(made.val, val)


@pytest.mark.parametrize("has_dropout", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_autograd_s(activation: str, has_dropout: bool) -> None:
    torch.manual_seed(0)
    network = Network((16, 12), activation, CPU)
    network.initialise(0)
    images, labels = torch.rand(20, 64), torch.randint(10, (20,))
    factors = [(torch.rand(20, width) > 0.25) / 0.75 for width in (16, 12)] if has_dropout else []
    network.step(images, functional.one_hot(labels, 10).float(), factors, torch.empty(20, 10))
    parameters = network.parameters.clone().requires_grad_()
    hidden = images
    *hidden_layers, (weights, biases) = network.views(parameters)
    for number, layer in enumerate(hidden_layers):
        hidden = ACTIVATIONS[activation](functional.linear(hidden, *layer))
        hidden = hidden * factors[number] if factors else hidden
    loss = functional.cross_entropy(functional.linear(hidden, weights, biases), labels)
    (expected,) = torch.autograd.grad(loss, parameters)
    torch.testing.assert_close(network.gradients, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("epoch", [1, 5])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("patience", [None, 3])
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
    data: SplitData, kind: Literal["sgd", "adam"], epoch: int, patience: int | None
) -> None:
    optimizer = OptimizerConfig(kind, 0.05 if kind == "sgd" else 0.01, momentum=0.9)
    stopping = StoppingConfig(patience, min_delta=0.05) if patience else None
    config = replace(CONFIG, optimizer=optimizer, early_stopping=stopping, epochs=12)
    whole = _train(config, data)
    tensors = to_tensors(data, "unit", CPU)
    first = MlpTraining(config, tensors)
    for _ in range(epoch):
        first.run_epoch()
    blobs = first.checkpoints()
    second = MlpTraining(config, tensors)
    second.restore(blobs["last"], blobs.get("best"))
    while not second.is_finished:
        second.run_epoch()
    assert second.epoch == whole.epoch
    assert second.best == whole.best
    assert _same(second.result(), whole.result())


def test_a_forest_is_scikit_learn_s(data: SplitData) -> None:
    training = ForestTraining(ForestConfig(seed=7, n_estimators=10, max_depth=10, evaluate_every=1), data)
    while not training.is_finished:
        training.run_epoch()
    result = training.result()
    whole = RandomForestClassifier(n_estimators=10, max_depth=10, random_state=7)
    whole.fit(data.train_pixels.reshape(-1, 64).astype(np.float32), data.train_labels)
    pixels = data.val_pixels.reshape(-1, 64).astype(np.float32)
    assert isinstance(result.model, RandomForestClassifier)
    assert np.array_equal(result.model.predict_proba(pixels), whole.predict_proba(pixels))
    assert 0.93 <= result.chosen.val_accuracy <= 0.975
    export.check(export.to_onnx(result.model, None), data.val_pixels, result.val_probabilities)


@pytest.mark.parametrize("scaling", ["byte", "unit"])
def test_an_exported_network_answers_as_the_trained_one(data: SplitData, scaling: Scaling) -> None:
    result = _train(CONFIG, data, scaling).result()
    model = export.to_onnx(result.model, scaling)
    export.check(model, data.val_pixels, result.val_probabilities)
    with pytest.raises(export.ExportMismatch):
        export.check(model, data.val_pixels, result.val_probabilities + np.float32(0.001))


def test_a_loss_that_is_not_finite_ends_the_training(data: SplitData) -> None:
    optimizer = OptimizerConfig("sgd", 1e30, momentum=0.9)
    with pytest.raises(Diverged):
        _train(replace(CONFIG, activation="relu", optimizer=optimizer), data)
