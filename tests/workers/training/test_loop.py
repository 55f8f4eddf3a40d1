"""The training loop: exact resume, early stopping, divergence, which epoch is kept, and runs that leave the stack."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from app.run_config import RunConfig
from app.run_costs import estimated_bytes, shared_bytes, stack_bytes, stack_key
from tests.workers.training.conftest import CPU, Digits, assert_same, finish
from workers.preparation import mlp_config
from workers.training import export, serialization
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig, StoppingConfig
from workers.training.data import Scaling
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.result import MlpModel
from workers.training.stack import Member

INTERRUPTED = Path(__file__).parent / "interrupted"


@pytest.mark.parametrize("epoch", [1, 5])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("patience", [None, 3])
@pytest.mark.parametrize("is_augmented", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    digits: Digits,
    is_compiled: bool,
    kind: Literal["sgd", "adam"],
    epoch: int,
    patience: int | None,
    is_augmented: bool,
) -> None:
    """The run is restored from bytes, into another stack and at another slot."""
    optimizer = OptimizerConfig(kind, 0.05 if kind == "sgd" else 0.01, momentum=0.9, nesterov=is_augmented)
    stopping = StoppingConfig(patience, min_delta=0.05) if patience else None
    shared: dict[str, Any] = {
        "optimizer": optimizer,
        "epochs": 12,
        "augmentation": AugmentationConfig(9, 1.0) if is_augmented else None,
    }
    schedule = CosineConfig(25) if is_augmented else None
    member = digits.member(early_stopping=stopping, hidden_sizes=(24, 12), schedule=schedule, **shared)
    other = digits.member(hidden_sizes=(20, 12), seed=9, **shared)
    whole = StackTraining([member], CPU, is_compiled=is_compiled)
    (uninterrupted,) = whole.active
    rows = _collect(whole, uninterrupted)

    first = StackTraining([member, other], CPU, is_compiled=is_compiled)
    resumed_rows = []
    for _ in range(epoch):
        resumed_rows += [metrics for run, metrics in first.run_epoch() if run is first.active[0]]
    kept = [
        {role: serialization.to_bytes(checkpoint) for role, checkpoint in run.take_checkpoints().items()}
        for run in first.active
    ]
    second = StackTraining([other, member], CPU, is_compiled=is_compiled)
    for run, blobs in zip(second.active, reversed(kept), strict=True):
        run.restore(serialization.from_bytes(blobs["last"]), serialization.from_bytes(blobs["best"]))
    resumed = second.active[1]
    resumed_rows += _collect(second, resumed)
    assert [row._replace(seconds=0) for row in resumed_rows] == [row._replace(seconds=0) for row in rows]
    assert resumed.best == uninterrupted.best
    assert resumed.epoch == uninterrupted.epoch
    assert_same(resumed.result(), uninterrupted.result())


def test_a_checkpoint_holds_the_whole_configuration(digits: Digits) -> None:
    member = digits.member(
        early_stopping=StoppingConfig(3, 0.01), schedule=CosineConfig(7), augmentation=AugmentationConfig(2, 1.0)
    )
    (run,) = StackTraining([member], CPU).active
    assert run.take_checkpoints()["last"].values["config"] == asdict(member.config)


def test_many_runs_that_leave_at_once_leave_the_others_as_they_were(digits: Digits) -> None:
    members = [digits.member(seed=seed) for seed in range(5)]
    expected = finish(StackTraining([members[3]], CPU)).active[0]
    training = StackTraining(members, CPU)
    training.run_epoch()
    for run in [run for run in training.active if run.config.seed != 3]:
        run.leave()
    assert training.stack.size == 5
    training.run_epoch()
    assert training.stack.size == 1
    assert_same(finish(training).active[0].result(), expected.result())


def test_a_run_that_an_earlier_version_interrupted_goes_on(digits: Digits) -> None:
    """Checkpoints and configuration were written before there were augmentation, schedules and Nesterov momentum."""
    stored = json.loads((INTERRUPTED / "run.json").read_text())
    config = RunConfig.model_validate(stored["config"])
    assert config.training is not None
    assert (stack_key(config), stack_bytes(config)) == (stored["stack_key"], stored["stack_bytes"])
    assert (shared_bytes(config), estimated_bytes(config)) == (0, stored["estimated_bytes"])
    last, best = (
        serialization.from_bytes((INTERRUPTED / f"{role}.safetensors").read_bytes()) for role in ("last", "best")
    )
    training = StackTraining([Member(mlp_config(config), digits.tensors["unit"], digits.split())], CPU)
    (run,) = training.active
    run.restore(last, best)
    assert run.epoch == 3
    rows = _collect(training, run)
    for row, expected in zip(rows, stored["metrics_after"], strict=True):
        for name, value in expected.items():  # of the uninterrupted run; other CPUs round the last bits differently
            assert getattr(row, name) == pytest.approx(value, rel=1e-4), name


def _collect(training: StackTraining, wanted: MlpTraining) -> list[Metrics]:
    rows = []
    while not wanted.is_finished:
        rows += [metrics for run, metrics in training.run_epoch() if run is wanted]
    return rows


@pytest.mark.parametrize("hidden_sizes", [(1,), (1, 24), ()])
def test_a_checkpoint_is_a_copy_that_later_epochs_do_not_change(
    digits: Digits, is_compiled: bool, hidden_sizes: tuple[int, ...]
) -> None:
    training = StackTraining([digits.member(hidden_sizes=hidden_sizes)], CPU, is_compiled=is_compiled)
    ((run, _),) = training.run_epoch()
    checkpoints = run.take_checkpoints()
    before = deepcopy(checkpoints)
    training.run_epoch()
    for role, checkpoint in checkpoints.items():
        for name, array in checkpoint.arrays.items():
            assert np.array_equal(array, before[role].arrays[name]), (role, name)


def test_runs_that_leave_do_not_change_the_others(digits: Digits, is_compiled: bool) -> None:
    """Runs leave until a quarter of the stack is left, so the slots are compacted twice."""
    members = [digits.member(seed=seed, activation=("tanh", "relu")[seed % 2]) for seed in range(8)]
    expected = [run.result() for run in finish(StackTraining(members, CPU, is_compiled=is_compiled)).active]
    training = StackTraining(members, CPU, is_compiled=is_compiled)
    runs = list(training.active)
    for seed in (0, 3, 4, 6, 7, 1):
        training.run_epoch()
        runs[seed].leave()
    finish(training)
    assert training.stack.size == 2
    for seed in (2, 5):
        assert_same(runs[seed].result(), expected[seed])


def test_a_run_that_diverges_fails_alone(digits: Digits, is_compiled: bool) -> None:
    wild = digits.member(activation="relu", optimizer=OptimizerConfig("sgd", 1e30, momentum=0.9))
    calm = digits.member(activation="relu", seed=4)
    (expected,) = finish(StackTraining([calm], CPU, is_compiled=is_compiled)).active
    training = StackTraining([wild, calm], CPU, is_compiled=is_compiled)
    lost, kept = training.active
    while not kept.is_finished:
        training.run_epoch()
        if lost in training.active and lost.failure:
            lost.leave()
    assert lost.failure is not None
    assert re.search(r"The loss is (NaN|-?Infinity) at epoch 1;", lost.failure)
    assert_same(kept.result(), expected.result())


def test_a_run_stops_early_and_keeps_its_best_epoch(digits: Digits) -> None:
    patience = 4
    member = digits.member(epochs=200, early_stopping=StoppingConfig(patience, min_delta=0.002))
    training = StackTraining([member], CPU)
    (run,) = training.active
    rows = _collect(training, run)
    assert len(rows) < 200
    best = max(rows, key=lambda row: (row.val_accuracy, -row.val_loss))
    assert run.best is not None
    assert (run.best.epoch, run.best.val_loss) == (best.epoch, best.val_loss)
    assert run.result().chosen.epoch == best.epoch
    # Replay of early stopping: the reference epoch is the last one that improved on the reference before it by more
    # than 0.002, and the run stops `patience` epochs after it.
    reference = rows[0]
    for row in rows:
        if row.val_accuracy > reference.val_accuracy + 0.002:
            reference = row
        assert (row.epoch - reference.epoch >= patience) == (row is rows[-1])


def test_the_last_epoch_is_kept_where_the_configuration_says_so(digits: Digits) -> None:
    best, last = finish(StackTraining([digits.member(keep=keep, epochs=30) for keep in ("best", "last")], CPU)).active
    assert last.result().chosen.epoch == 30
    chosen = best.result().chosen
    assert chosen == best.best
    assert chosen.val_accuracy >= last.result().chosen.val_accuracy


def test_only_due_epochs_are_evaluated(digits: Digits) -> None:
    members = [digits.member(evaluate_every=3), digits.member(evaluate_every=5, epochs=7)]
    training = StackTraining(members, CPU)
    runs = list(training.active)
    seen: dict[MlpTraining, list[int]] = {run: [] for run in runs}
    while training.active:
        for run, metrics in training.run_epoch():
            seen[run].append(metrics.epoch)
        for run in [run for run in training.active if run.is_finished]:
            run.leave()
    assert [seen[run] for run in runs] == [[1, 3, 6, 8], [1, 5, 7]]


def test_metrics_are_what_the_weights_say(digits: Digits, is_compiled: bool) -> None:
    """Compare re-evaluated train and val metrics and weight norms with plain torch on the checkpoint's weights."""
    member = digits.member(epochs=3)
    training = StackTraining([member], CPU, dtype=torch.float64, is_compiled=is_compiled)
    for _ in range(3):
        ((run, metrics),) = training.run_epoch()
    arrays = run.take_checkpoints()["last"].arrays
    layers = [(arrays[f"weights{number}"], arrays[f"biases{number}"]) for number in (1, 2, 3)]
    for split, loss, accuracy in (
        (member.split.train, metrics.train_eval_loss, metrics.train_eval_accuracy),
        (member.split.val, metrics.val_loss, metrics.val_accuracy),
    ):
        hidden = member.data.images.double().numpy()[split]
        labels = member.data.labels.numpy()[split]
        for weights, biases in layers[:-1]:
            hidden = np.tanh(hidden @ weights.T + biases)
        logits = hidden @ layers[-1][0].T + layers[-1][1]
        losses = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
        assert loss == pytest.approx(losses.item(), rel=1e-9)
        assert accuracy == (logits.argmax(axis=1) == labels).mean()
    norms = [float(np.sqrt((weights**2).sum() + (biases**2).sum())) for weights, biases in layers]
    assert metrics.weight_norms == pytest.approx(norms, rel=1e-9)
    assert metrics.train_loss > metrics.train_eval_loss  # it is measured with dropout and the epoch's earlier weights


def test_a_confident_mistake_costs_what_scikit_learn_says(digits: Digits, is_compiled: bool) -> None:
    """The engines clip losses as `sklearn.metrics.log_loss` does."""
    from sklearn.metrics import log_loss

    member = digits.member(activation="relu", optimizer=OptimizerConfig("sgd", 2.0, momentum=0.9), epochs=2, seed=8)
    training = StackTraining([member], CPU, is_compiled=is_compiled)
    (run,) = training.active
    training.run_epoch()
    training.run_epoch()
    stack = training.stack
    stack.parameters.mul_(30.0)
    loss = training.engine.evaluate([0], "val").losses[0] / len(member.split.val)
    stack.best.copy_(stack.parameters)
    probabilities = run.result().val_probabilities
    labels = member.data.labels.numpy()[member.split.val]
    assert (probabilities[np.arange(len(labels)), labels] < 1e-7).any(), "nothing to clip"
    assert loss == pytest.approx(log_loss(labels, probabilities, labels=range(10)), rel=1e-5)


def test_a_test_split_is_evaluated_once_at_the_end(digits: Digits) -> None:
    split = digits.split(test_size=0.1)
    (run,) = finish(StackTraining([digits.member(split=split, epochs=20)], CPU)).active
    result = run.result()
    assert result.test_probabilities is not None
    assert result.test_probabilities.shape == (180, 10)
    labels = digits.labels[split.test]
    assert result.test_accuracy == (result.test_probabilities.argmax(axis=1) == labels).mean()


@pytest.mark.parametrize("scaling", ["byte", "unit"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_an_exported_network_answers_as_the_trained_one(digits: Digits, scaling: Scaling, activation: str) -> None:
    (run,) = finish(StackTraining([digits.member(scaling, activation=activation)], CPU)).active
    result = run.result()
    assert isinstance(result.model, MlpModel)
    session = export.open_session(export.to_onnx(result.model, scaling))
    answers = export.run(session, digits.data().val_pixels)
    export.check(answers, result.val_probabilities)
    with pytest.raises(export.ExportMismatch):
        export.check(answers, result.val_probabilities + np.float32(0.001))
