"""Stacks: a run gets the same bits alone and in any stack, and agrees with plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice, pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from tests.workers.training.conftest import CPU, Digits, assert_same, finish
from workers.training import randomness
from workers.training import stack as stack_module
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig
from workers.training.data import Scaling, fold_indices, to_tensor
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.stack import ACTIVATIONS, Member, Stack

WEAK = AugmentationConfig(7, 0.5)
NESTEROV = OptimizerConfig("sgd", 0.01, momentum=0.9, nesterov=True)
MODULES: dict[str, type[torch.nn.Module]] = {"sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}


def _assert_same_in_stacks(
    digits: Digits, member: Member, places: Sequence[tuple[int, int]], *, is_compiled: bool
) -> list[Metrics]:
    """Train a run alone, then among others in stacks of (size, the run's place); return its metrics alone."""
    training = StackTraining([member], CPU, is_compiled=is_compiled)
    (alone,) = training.active
    expected = _train(training, alone)
    for size, place in places:
        members = _strangers(digits, size - 1, member)
        members.insert(place, member)
        training = StackTraining(members, CPU, is_compiled=is_compiled)
        run = training.active[place]
        assert _train(training, run) == expected
        assert_same(run.result(), alone.result())
    return expected


def _strangers(digits: Digits, count: int, member: Member) -> list[Member]:
    """Make runs that may share a stack with a 24-24 member and differ from it in every setting that may differ."""
    variants: list[dict[str, Any]] = [
        {"activation": "relu", "dropout": 0.0, "hidden_sizes": (17, 30)},
        {"activation": "sigmoid", "dropout": 0.5, "hidden_sizes": (32, 25)},
        {"activation": "tanh", "dropout": 0.1, "hidden_sizes": (24, 32)},
    ]
    strangers = []
    for number, variant in enumerate(islice(cycle(variants), count)):
        rate = 0.003 * (number + 1)
        optimizer = replace(member.config.optimizer, learning_rate=rate, momentum=0.5, weight_decay=0.001)
        optimizer = replace(optimizer, nesterov=optimizer.nesterov and number % 2 == 1)
        epochs = 1 + 7 * number % member.config.epochs  # the runs leave one after the other
        changes = {**variant, "seed": 100 + number, "optimizer": optimizer, "epochs": epochs, "evaluate_every": 10}
        changes["schedule"] = member.config.schedule if number % 2 else None
        if member.config.augmentation is not None:
            changes["augmentation"] = replace(member.config.augmentation, copies=1 + 3 * number % 16)
        config = replace(member.config, **changes)
        tensors = digits.tensors["byte" if number % 2 else "unit"]
        strangers.append(Member(config, tensors, digits.split(number, 0.5), member.bank))
    return strangers


def _train(training: StackTraining, run: MlpTraining) -> list[Metrics]:
    """Train one run to its end while its neighbours leave as they finish; return its metrics except the seconds."""
    rows = []
    while not run.is_finished:
        rows += [metrics._replace(seconds=0) for other, metrics in training.run_epoch() if other is run]
        for other in [other for other in training.active if other is not run and other.is_finished]:
            other.leave()
    return rows


@pytest.mark.parametrize("batch_size", [7, 20, None])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_has_the_same_bits_alone_and_at_any_slot_of_any_stack(
    digits: Digits, is_compiled: bool, activation: str, batch_size: int | None, optimizer: Literal["sgd", "adam"]
) -> None:
    """Train the preset `dropout-tanh` with varied settings on 358 images, for 100 epochs on the fast engine, else 4."""
    epochs = 100 if is_compiled else 4
    member = digits.member(
        "byte",
        hidden_sizes=(24, 24),
        activation=activation,
        batch_size=batch_size,
        epochs=epochs,
        optimizer=OptimizerConfig(optimizer, 0.01, momentum=0.9),
        split=digits.split(test_size=0.5),
    )
    assert len(member.split.train) == 358
    metrics = _assert_same_in_stacks(digits, member, ((2, 1), (7, 3), (32, 20)), is_compiled=is_compiled)
    assert [row.epoch for row in metrics] == list(range(1, epochs + 1))


@pytest.mark.parametrize("optimizer", [NESTEROV, OptimizerConfig("adam", 0.01)])
def test_a_run_with_augmentation_and_schedule_has_the_same_bits_in_any_stack(
    digits: Digits, is_compiled: bool, optimizer: OptimizerConfig
) -> None:
    """Its neighbours have other numbers of copies, other splits, constant rates and no Nesterov momentum."""
    member = digits.member(
        "byte",
        hidden_sizes=(24, 24),
        epochs=12 if is_compiled else 3,
        optimizer=optimizer,
        split=digits.split(test_size=0.5),
        schedule=CosineConfig(7),
        augmentation=AugmentationConfig(10, 1.0),
    )
    _assert_same_in_stacks(digits, member, ((2, 1), (9, 3)), is_compiled=is_compiled)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 13, 33, 127])
def test_odd_batches_have_the_same_bits_in_a_stack(digits: Digits, is_compiled: bool, batch_size: int) -> None:
    """The layers are narrow, so that the numbers of a run do not fill a CPU's widest vectors."""
    changes: dict[str, Any] = {"hidden_sizes": (12,), "activation": "sigmoid", "batch_size": batch_size, "epochs": 1}
    (alone,) = finish(StackTraining([digits.member(**changes)], CPU, is_compiled=is_compiled)).active
    members = [digits.member(**changes, seed=seed) for seed in (9, 3, 8)]
    runs = finish(StackTraining(members, CPU, is_compiled=is_compiled)).active
    assert_same(runs[1].result(), alone.result())


def test_settings_close_to_one_do_not_become_one(digits: Digits, is_compiled: bool) -> None:
    optimizer = OptimizerConfig("adam", 0.01, beta1=0.5, beta2=0.99999999)
    (run,) = finish(StackTraining([digits.member(optimizer=optimizer, epochs=2)], CPU, is_compiled=is_compiled)).active
    assert run.failure is None
    assert run.epoch == 2


def test_the_number_of_threads_changes_nothing(digits: Digits) -> None:
    members = [digits.member(seed=seed) for seed in range(5)]
    one, three = (finish(StackTraining(members, CPU, threads=threads)).active for threads in (1, 3))
    for mine, yours in zip(one, three, strict=True):
        assert_same(mine.result(), yours.result())


@pytest.mark.parametrize(
    ("optimizer", "epochs", "tolerance"),
    [
        (OptimizerConfig("sgd", 0.01, momentum=0.9), 20, 1e-8),
        (OptimizerConfig("sgd", 0.01, weight_decay=0.01), 20, 1e-8),
        (OptimizerConfig("adam", 0.003), 20, 1e-8),
        (OptimizerConfig("adam", 0.001, weight_decay=0.01, beta1=0.8, beta2=0.99, epsilon=1e-6), 20, 1e-8),
        (OptimizerConfig("sgd", 0.3, momentum=0.9, weight_decay=0.001), 1, 1e-8),
    ],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_run_follows_plain_torch(
    digits: Digits, is_compiled: bool, activation: str, optimizer: OptimizerConfig, epochs: int, tolerance: float
) -> None:
    """Compare in float64, with the same initial weights and batches; at the high learning rate for one epoch only."""
    batch_size = 20 if epochs > 1 else 26  # 1,257 images make 49 steps of 26
    member = digits.member(
        hidden_sizes=(12, 20),
        activation=activation,
        dropout=0.0,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
    )
    training = StackTraining([member], CPU, dtype=torch.float64, is_compiled=is_compiled)
    (run,) = training.active
    model = _plain_model(member)
    plain = _plain_optimizer(model, optimizer)
    images, labels = member.data.images.double(), member.data.labels
    for epoch in range(1, epochs + 1):
        ((_, metrics),) = training.run_epoch()
        order = randomness.data_orders(torch.tensor([member.config.seed]), epoch, len(member.split.train))[0]
        rows = torch.from_numpy(member.split.train).long()[order]
        total = 0.0
        for batch in torch.split(rows, batch_size):
            plain.zero_grad()
            loss = functional.cross_entropy(model(images[batch]), labels[batch])
            torch.autograd.backward(loss)
            plain.step()
            total += loss.item() * len(batch)
        assert metrics.train_loss == pytest.approx(total / len(rows), rel=1e-6)
    arrays = run.take_checkpoints()["last"].arrays
    for number, layer in enumerate(module for module in model if isinstance(module, torch.nn.Linear)):
        for name, parameter in (("weights", layer.weight), ("biases", layer.bias)):
            difference = (torch.from_numpy(arrays[f"{name}{number + 1}"].copy()) - parameter).abs().max().item()
            assert difference < tolerance
    norms = [
        torch.cat([parameter.grad.flatten() for parameter in layer.parameters() if parameter.grad is not None]).norm()
        for layer in model
        if isinstance(layer, torch.nn.Linear)
    ]
    assert metrics.gradient_norms == pytest.approx([norm.item() for norm in norms], rel=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerConfig("sgd", 0.03, momentum=0.9, weight_decay=0.001, nesterov=True),
        OptimizerConfig("sgd", 0.03, momentum=0.9),
        OptimizerConfig("adam", 0.003, weight_decay=0.001),
    ],
)
@pytest.mark.parametrize("batch_size", [26, None])
def test_copies_schedule_and_nesterov_momentum_follow_plain_torch(
    digits: Digits, is_compiled: bool, optimizer: OptimizerConfig, batch_size: int | None
) -> None:
    """Compare in float64 with torch's own optimizers and schedulers, on batches picked from the bank by hand."""
    epochs, warmup = 3, 60 if batch_size else 2
    member = digits.member(
        "byte",
        dropout=0.0,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        schedule=CosineConfig(warmup),
        augmentation=AugmentationConfig(11, 1.0),
    )
    training = StackTraining([member], CPU, dtype=torch.float64, is_compiled=is_compiled)
    model = _plain_model(member)
    plain = _plain_optimizer(model, optimizer)
    num_train, seeds = len(member.split.train), torch.tensor([member.config.seed])
    at_once = batch_size or num_train
    total = epochs * -(-num_train // at_once)
    rising = LinearLR(plain, start_factor=1 / warmup, total_iters=warmup - 1)
    schedule = SequentialLR(plain, [rising, CosineAnnealingLR(plain, total - warmup)], [warmup])
    for epoch in range(1, epochs + 1):
        training.run_epoch()
        order = torch.arange(num_train)
        if batch_size:
            order = randomness.data_orders(seeds, epoch, num_train)[0]
        copies = randomness.copy_numbers(seeds, epoch, num_train, torch.tensor([11]))[0][order]
        rows = torch.from_numpy(member.split.train).long()[order]
        for batch, chosen in zip(torch.split(rows, at_once), torch.split(copies, at_once), strict=True):
            pixels = digits.bank()[chosen, batch].numpy()
            plain.zero_grad()
            loss = functional.cross_entropy(model(to_tensor(pixels, "byte").double()), member.data.labels[batch])
            torch.autograd.backward(loss)
            plain.step()
            schedule.step()
    (run,) = training.active
    arrays = run.take_checkpoints()["last"].arrays
    for number, layer in enumerate(module for module in model if isinstance(module, torch.nn.Linear)):
        for name, parameter in (("weights", layer.weight), ("biases", layer.bias)):
            difference = (torch.from_numpy(arrays[f"{name}{number + 1}"].copy()) - parameter).abs().max().item()
            assert difference < 1e-9


@pytest.mark.parametrize("scaling", ["byte", "unit"])
def test_a_copy_that_is_the_image_trains_to_the_same_bits(digits: Digits, is_compiled: bool, scaling: Scaling) -> None:
    """A bank of the images themselves: its pixels are scaled to the bits of `to_tensor`."""
    member = digits.member(scaling, epochs=2)
    images = torch.from_numpy(digits.pixels).view(1, -1, 64)
    config = replace(member.config, augmentation=AugmentationConfig(1, 1.0))
    copied = Member(config, member.data, member.split, images)
    one, other = (finish(StackTraining([each], CPU, is_compiled=is_compiled)).active[0] for each in (member, copied))
    assert_same(one.result(), other.result())


def test_a_fold_trains_on_copies_of_its_own_train_images_alone(digits: Digits, is_compiled: bool) -> None:
    """Copies of other images are spoiled, which changes no bit; a spoiled train image changes the weights."""
    fold = fold_indices(digits.labels, digits.split(), number=1, num_folds=5)
    member = digits.member(split=fold, epochs=2, augmentation=AugmentationConfig(16, 1.0))
    bank = digits.bank()
    outside = np.setdiff1d(np.arange(len(digits.labels)), fold.train)
    assert set(fold.val) < set(outside)
    assert len(outside) + len(fold.train) == 1797
    spoiled, spoiled_inside = bank.clone(), bank.clone()
    spoiled[:, torch.from_numpy(outside).long()] = 255
    spoiled_inside[:, fold.train[:1]] = 255
    results = []
    for each in (bank, spoiled, spoiled_inside):
        (run,) = finish(StackTraining([member._replace(bank=each)], CPU, is_compiled=is_compiled)).active
        results.append(run.result())
    assert_same(results[0], results[1])
    with pytest.raises(AssertionError):
        assert_same(results[0], results[2])


def test_evaluations_see_the_images_themselves(digits: Digits, is_compiled: bool) -> None:
    """At a learning rate of 1e-30 the weights do not move: every loss but the one seen in training is the same."""
    optimizer = OptimizerConfig("sgd", 1e-30)
    members = [
        digits.member(epochs=1, dropout=0.0, optimizer=optimizer, augmentation=augmentation)
        for augmentation in (None, AugmentationConfig(16, 1.0))
    ]
    rows = [StackTraining([member], CPU, is_compiled=is_compiled).run_epoch()[0][1] for member in members]
    assert rows[0].train_eval_loss == rows[1].train_eval_loss
    assert rows[0].val_loss == rows[1].val_loss
    assert rows[0].train_loss != rows[1].train_loss


def _plain_model(member: Member) -> torch.nn.Sequential:
    config = member.config
    sizes = [64, *config.hidden_sizes, 10]
    modules: list[torch.nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(sizes), start=1):
        layer = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
        weights, biases = randomness.linear_layer(config.seed, number, inputs, outputs)
        layer.weight.data.copy_(torch.from_numpy(weights))
        layer.bias.data.copy_(torch.from_numpy(biases))
        modules += [layer, MODULES[config.activation]()]
    return torch.nn.Sequential(*modules[:-1])


def _plain_optimizer(model: torch.nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.kind == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=rate, momentum=config.momentum, weight_decay=decay, nesterov=config.nesterov
        )
    betas = (config.beta1, config.beta2)
    return torch.optim.Adam(model.parameters(), lr=rate, betas=betas, eps=config.epsilon, weight_decay=decay)


@pytest.mark.parametrize(
    ("batch_size", "augmentation"),
    [(1, None), (7, None), (20, None), (1256, None), (None, None), (20, WEAK), (1256, WEAK), (None, WEAK)],
)
@pytest.mark.parametrize("optimizer", [OptimizerConfig("sgd", 0.001, momentum=0.9), OptimizerConfig("adam", 0.001)])
def test_both_engines_agree_with_dropout_on(
    digits: Digits, batch_size: int | None, optimizer: OptimizerConfig, augmentation: AugmentationConfig | None
) -> None:
    """Both engines draw the same dropout; compared in float64 over an epoch, at rates that do not amplify rounding."""
    members = [
        digits.member(
            hidden_sizes=(12, 20),
            epochs=1,
            activation=name,
            dropout=0.3,
            batch_size=batch_size,
            optimizer=optimizer,
            augmentation=augmentation,
        )
        for name in ACTIVATIONS
    ]
    stacks = [
        finish(StackTraining(members, CPU, dtype=torch.float64, is_compiled=is_compiled)).stack
        for is_compiled in (True, False)
    ]
    torch.testing.assert_close(stacks[0].parameters, stacks[1].parameters, rtol=0, atol=1e-9)


@pytest.mark.parametrize("hidden_sizes", [(), (5,), (40, 16, 3, 33)])
def test_any_number_of_hidden_layers_can_be_trained(
    digits: Digits, is_compiled: bool, hidden_sizes: tuple[int, ...]
) -> None:
    optimizer = OptimizerConfig("adam", 0.01)
    member = digits.member(hidden_sizes=hidden_sizes, dropout=0.1, epochs=40, batch_size=50, optimizer=optimizer)
    (run,) = finish(StackTraining([member], CPU, is_compiled=is_compiled)).active
    assert run.best is not None
    assert run.best.val_accuracy > 0.8


def test_padding_stays_zero(digits: Digits, is_compiled: bool) -> None:
    optimizer = OptimizerConfig("sgd", 0.1, momentum=0.9, weight_decay=0.01)
    members = [digits.member(hidden_sizes=(5, 17), activation=name, optimizer=optimizer) for name in ACTIVATIONS]
    stack = finish(StackTraining(members, CPU, is_compiled=is_compiled)).stack
    weights = stack.parameters[:, : 64 * 16].view(3, 64, 16)
    assert (weights[:, :, 5:] == 0).all()
    start = stack.shape.layout.starts[1]
    weights = stack.parameters[:, start : start + 16 * 32].view(3, 16, 32)
    assert (weights[:, :5, :17] != 0).all()
    assert (weights[:, 5:] == 0).all()
    assert (weights[:, :, 17:] == 0).all()


def test_runs_of_different_shapes_make_no_stack(digits: Digits) -> None:
    with pytest.raises(ValueError, match="same shape"):
        StackTraining([digits.member(hidden_sizes=(16,)), digits.member(hidden_sizes=(17,))], CPU)


def test_runs_with_augmentation_need_one_bank_of_one_strength(digits: Digits) -> None:
    plain, weak, strong = (
        digits.member(augmentation=augmentation)
        for augmentation in (None, AugmentationConfig(16, 0.5), AugmentationConfig(16, 1.0))
    )
    for members in ([plain, strong], [weak, strong]):
        with pytest.raises(ValueError, match="same shape"):
            StackTraining(members, CPU)
    assert strong.bank is not None
    others = [strong._replace(bank=bank) for bank in (None, strong.bank[:15], strong.bank.clone())]
    for members in ([others[0]], [others[1]], [strong, others[0]], [strong, others[2]]):
        with pytest.raises(ValueError, match="one bank, of 16 copies or more"):
            StackTraining(members, CPU)


def test_a_smaller_stack_keeps_the_rows_of_those_that_stay(digits: Digits) -> None:
    stack = Stack.build([digits.member(seed=seed) for seed in range(4)], CPU)
    smaller = stack.select([1, 3])
    assert smaller.seeds.tolist() == [1, 3]
    assert torch.equal(smaller.parameters, stack.parameters[[1, 3]])
    assert torch.equal(smaller.rows["val"], stack.rows["val"][[1, 3]])


def test_the_default_configuration_learns(digits: Digits) -> None:
    (run,) = finish(StackTraining([digits.member()], CPU)).active
    assert run.best is not None
    assert run.best.val_accuracy > 0.9


def test_many_runs_of_several_widths_start_as_each_alone(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_module, "NUMBERS_AT_ONCE", 4000)  # two or three runs at once
    members = [digits.member(hidden_sizes=sizes, seed=seed) for seed in range(4) for sizes in ((12, 8), (9, 16))]
    together = Stack.build(members, CPU).parameters
    for row, member in zip(together, members, strict=True):
        assert torch.equal(row, Stack.build([member], CPU).parameters[0])
