"""The CUDA engine, emulated on a CPU: it agrees with the compiled engine, and a run's bits depend on nothing else.

The engine suite itself (`test_stack.py`, `test_loop.py`, `test_snapshots.py`) runs on it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.training.conftest import CPU, Digits
from tests.workers.training.engines.emulation import H100, EmulatedKernels
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig
from workers.training.engines.cuda_engine import FusedEngine, Part, queue_together, train_together
from workers.training.engines.cuda_plan import Limits
from workers.training.engines.numba_engine import CompiledEngine
from workers.training.stack import ACTIVATIONS, Decisions, Member, Stack, Stretch, Tally
from workers.training.tensors import SplitIndices

Emulated = dict[torch.dtype, EmulatedKernels]

EPOCHS = 2
SGD = OptimizerConfig("sgd", 0.05, momentum=0.9, weight_decay=1e-3)
NESTEROV = OptimizerConfig("sgd", 0.03, momentum=0.9, weight_decay=1e-3, nesterov=True)
ADAM = OptimizerConfig("adam", 0.003, weight_decay=1e-3)
WARPED = AugmentationConfig(7, 1.0)
STATE = ("parameters", "gradients", "first", "second", "best")

# hidden_sizes, batch_size, dropout, optimizer, and what else; whether float64 must be equal to the last bit: every sum
# of a batch of at most 32 has the compiled engine's order, and SGD the same fused operations.
CASES: list[tuple[tuple[int, ...], int | None, float, OptimizerConfig, dict[str, Any], bool]] = [
    ((12, 12), 20, 0.0, SGD, {}, True),
    ((12, 12), 20, 0.25, SGD, {}, True),
    ((24, 24), 20, 0.25, ADAM, {}, False),
    ((52, 52), 20, 0.0, NESTEROV, {"augmentation": WARPED, "schedule": CosineConfig(5)}, True),
    ((52, 52), 100, 0.25, ADAM, {"schedule": CosineConfig(2)}, False),
    ((40, 16, 3, 33), 50, 0.1, ADAM, {"augmentation": WARPED}, False),
    ((1, 2, 3, 4, 5, 6, 7, 8), 20, 0.1, SGD, {}, True),
    ((5,), 7, 0.0, SGD, {}, True),
    ((), 20, 0.0, NESTEROV, {"schedule": CosineConfig(0)}, True),
    ((12, 12), None, 0.25, SGD, {"augmentation": WARPED}, False),
    ((12, 20), 1, 0.3, ADAM, {}, False),
    ((12, 20), 33, 0.3, ADAM, {}, False),
]


def few(digits: Digits, num_train: int = 203, num_val: int = 90) -> SplitIndices:
    split = digits.split(test_size=0.1)
    return SplitIndices(split.train[:num_train], split.val[:num_val], split.test[:17])


def make_members(digits: Digits, hidden_sizes: tuple[int, ...], **changes: Any) -> list[Member]:
    """A run of each activation, on few images."""
    return [
        digits.member(hidden_sizes=hidden_sizes, activation=activation, seed=3 + number, **changes)
        for number, activation in enumerate(ACTIVATIONS)
    ]


def all_due(size: int, epochs: int = EPOCHS) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.ones((size, epochs), np.bool_)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("hidden_sizes", "batch_size", "dropout", "optimizer", "others", "is_exact"), CASES)
def test_the_engine_agrees_with_the_compiled_one(
    digits: Digits,
    emulated: Emulated,
    hidden_sizes: tuple[int, ...],
    batch_size: int | None,
    dropout: float,
    optimizer: OptimizerConfig,
    others: dict[str, Any],
    is_exact: bool,
    dtype: torch.dtype,
) -> None:
    """Compare weights, state, gradients, losses, right predictions, norms and logits after two epochs."""
    changes: dict[str, Any] = {"batch_size": batch_size, "dropout": dropout, "optimizer": optimizer, **others}
    split = few(digits, num_train=40 if batch_size == 1 else 203)
    members = make_members(digits, hidden_sizes, split=split, epochs=EPOCHS, **changes)
    mine, theirs = Stack.build(members, CPU, dtype), Stack.build(members, CPU, torch.float64)
    engine, compiled = FusedEngine(mine, emulated[dtype]), CompiledEngine(theirs)
    slots = range(len(members))
    tolerance = 5e-6 if dtype == torch.float32 else 1e-13
    stretch = engine.train_epochs(slots, 1, all_due(len(members)), [Decisions()] * len(members))
    for epoch in range(EPOCHS):
        assert_close(stretch.seen, epoch, compiled.train(slots, epoch + 1), tolerance)
        assert_close(stretch.train, epoch, compiled.evaluate(slots, "train"), tolerance)
        assert_close(stretch.val, epoch, compiled.evaluate(slots, "val"), tolerance)
        gradient_norms, weight_norms = compiled.norms(slots)
        np.testing.assert_allclose(stretch.gradient_norms[:, epoch], gradient_norms, rtol=10 * tolerance)
        np.testing.assert_allclose(stretch.weight_norms[:, epoch], weight_norms, rtol=tolerance)
    for name in ("parameters", "gradients", "first", "second"):
        difference = (getattr(mine, name).double() - getattr(theirs, name)).abs()
        assert difference.numel() == 0 or difference.max() <= (0 if is_exact and dtype == torch.float64 else tolerance)
    for slot in slots:
        logits = [
            each.logits(slot, stack.parameters[slot], "test") for each, stack in ((engine, mine), (compiled, theirs))
        ]
        np.testing.assert_allclose(logits[0], logits[1], atol=10 * tolerance, rtol=0)
    np.testing.assert_array_equal(engine.evaluate(slots, "val").losses, stretch.val.losses[:, -1])
    np.testing.assert_array_equal(engine.norms(slots), (stretch.gradient_norms[:, -1], stretch.weight_norms[:, -1]))


def assert_close(mine: Tally, epoch: int, theirs: Tally, tolerance: float) -> None:
    np.testing.assert_allclose(mine.losses[:, epoch], theirs.losses, rtol=tolerance)
    np.testing.assert_array_equal(mine.corrects[:, epoch], theirs.corrects)


def bits_of(stack: Stack, stretches: Sequence[Stretch], slot: int) -> list[bytes]:
    """Everything that training gives a run."""
    found = [getattr(stack, name)[slot].numpy().tobytes() for name in STATE]
    for name in ("seen", "train", "val"):
        for tally in (getattr(stretch, name) for stretch in stretches):
            found += [tally.losses[slot].tobytes(), tally.corrects[slot].tobytes()]
    return [
        *found,
        *(norms[slot].tobytes() for each in stretches for norms in (each.gradient_norms, each.weight_norms)),
    ]


def train(members: Sequence[Member], kernels: EmulatedKernels, **options: Any) -> tuple[Stack, Stretch]:
    stack = Stack.build(members, CPU)
    engine = FusedEngine(stack, kernels, **options)
    slots = range(len(members))
    return stack, engine.train_epochs(slots, 1, all_due(len(members)), [Decisions()] * len(members))


@pytest.fixture(scope="module")
def varied(digits: Digits) -> list[Member]:
    """Six runs with everything that a run may have."""
    members = make_members(
        digits,
        (24, 20),
        split=few(digits),
        batch_size=50,
        optimizer=ADAM,
        augmentation=WARPED,
        schedule=CosineConfig(5),
        epochs=EPOCHS,
    )
    others = [
        each._replace(config=replace(each.config, seed=90 + number, dropout=0.1 * number, schedule=None))
        for number, each in enumerate(members)
    ]
    return sorted(members + others, key=lambda member: ACTIVATIONS.index(member.config.activation))


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        *((seed, {}) for seed in (0, 2, 3)),
        *((1, {"threads": threads}) for threads in (64, 96, 256, 512)),
        (1, {"state_in_shared": False}),
        (1, {"state_in_shared": False, "threads": 64}),
        *((1, {"evaluated_rows": rows}) for rows in (16, 48, 64)),
    ],
)
def test_no_choice_of_a_plan_and_no_order_of_threads_changes_a_bit(
    emulated: Emulated, varied: list[Member], seed: int, options: dict[str, Any]
) -> None:
    kernels = emulated[torch.float32]
    stack, stretch = train(varied, kernels)
    kernels.seed, before = seed, kernels.seed
    try:
        other, other_stretch = train(varied, kernels, **options)
    finally:
        kernels.seed = before
    for slot in range(len(varied)):
        assert bits_of(other, [other_stretch], slot) == bits_of(stack, [stretch], slot)


def test_a_run_has_the_same_bits_alone(emulated: Emulated, varied: list[Member]) -> None:
    stack, stretch = train(varied, emulated[torch.float32])
    for slot in range(len(varied)):
        alone, alone_stretch = train(varied[slot : slot + 1], emulated[torch.float32])
        assert bits_of(alone, [alone_stretch], 0) == bits_of(stack, [stretch], slot)


def test_slots_that_are_left_out_do_not_change(emulated: Emulated, varied: list[Member]) -> None:
    stack, stretch = train(varied, emulated[torch.float32])
    other = Stack.build(varied, CPU)
    before = other.parameters.clone()
    engine = FusedEngine(other, emulated[torch.float32])
    some = engine.train_epochs([1, 4], 1, all_due(2), [Decisions()] * 2)
    for name in ("parameters", "first", "best"):
        assert torch.equal(getattr(other, name)[[1, 4]], getattr(stack, name)[[1, 4]])
    np.testing.assert_array_equal(some.val.losses, stretch.val.losses[[1, 4]])
    assert torch.equal(other.parameters[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


@pytest.mark.parametrize("state_in_shared", [False, True])
def test_epochs_may_be_split_into_launches(emulated: Emulated, varied: list[Member], state_in_shared: bool) -> None:
    """Launches of 1, 2 and 1 epochs, the last ones on a copy of the stack, as after a restart, give the bits of one."""
    whole = Stack.build(varied, CPU)
    slots, none = range(len(varied)), [Decisions()] * len(varied)
    expected = FusedEngine(whole, emulated[torch.float32]).train_epochs(slots, 1, all_due(len(slots), 4), none)
    stack, rows = Stack.build(varied, CPU), []
    options: dict[str, Any] = {"state_in_shared": state_in_shared}
    for epoch, count in ((1, 1), (2, 2), (4, 1)):
        stack = stack.select(slots)
        engine = FusedEngine(stack, emulated[torch.float32], **options)
        rows.append(engine.train_epochs(slots, epoch, all_due(len(slots), count), none).val.losses)
    np.testing.assert_array_equal(np.concatenate(rows, axis=1), expected.val.losses)
    for name in ("parameters", "gradients", "first", "second"):
        assert torch.equal(getattr(stack, name), getattr(whole, name))


def test_stacks_of_different_shapes_share_a_launch(digits: Digits, emulated: Emulated, varied: list[Member]) -> None:
    """One has more blocks, and the other larger ones, whose threads both get; each gives what it gives alone."""
    wide = make_members(digits, (52,), split=few(digits), batch_size=None, epochs=EPOCHS)
    alone = [train(members, emulated[torch.float32]) for members in (varied, wide)]
    stacks = [Stack.build(members, CPU) for members in (varied, wide)]
    parts = [
        Part(
            FusedEngine(stack, emulated[torch.float32], threads=threads),
            range(stack.size),
            1,
            all_due(stack.size),
            [Decisions()] * stack.size,
        )
        for stack, threads in zip(stacks, (64, 128), strict=True)
    ]
    for stack, stretch, (expected, expected_stretch) in zip(stacks, train_together(parts), alone, strict=True):
        for slot in range(stack.size):
            assert bits_of(stack, [stretch], slot) == bits_of(expected, [expected_stretch], slot)
    other = FusedEngine(Stack.build(wide, CPU, torch.float64), emulated[torch.float64])
    with pytest.raises(ValueError, match="the same kernels and device"):
        train_together([parts[0], parts[1]._replace(engine=other)])


def test_only_due_epochs_are_evaluated_and_all_work_is_counted(emulated: Emulated, varied: list[Member]) -> None:
    stack = Stack.build(varied, CPU)
    engine = FusedEngine(stack, emulated[torch.float32])
    dues = np.zeros((2, 3), np.bool_)
    dues[0, 1] = dues[1, 2] = True
    stretch = engine.train_epochs([0, 3], 1, dues, [Decisions()] * 2)
    assert ((stretch.val.losses > 0) == dues).all()
    assert (stretch.seen.losses > 0).all()
    assert engine.num_done == 2 * 3 * stack.shape.num_steps + 4
    engine.evaluate([1], "val")
    assert engine.num_done == 2 * 3 * stack.shape.num_steps + 5


def test_a_stack_that_does_not_fit_beside_the_threads_of_another_shares_no_launch(
    digits: Digits, emulated: Emulated
) -> None:
    """The memory that a block needs grows with its threads, where an epoch has as many steps."""
    members = make_members(digits, (24, 20), split=few(digits), batch_size=1, optimizer=SGD)
    (stack, other), whole = (Stack.build(members, CPU) for _ in range(2)), emulated[torch.float32]
    options: dict[str, Any] = {"threads": 64, "state_in_shared": False, "evaluated_rows": 16}
    needed = FusedEngine(stack, whole, **options).plan.shared_bytes
    kernels = EmulatedKernels(Path(whole.library._name), limits=Limits(needed, 2 * needed, 132, 0))
    engines = [FusedEngine(each, kernels, **options) for each in (stack, other)]
    assert engines[0].launch_key(64) == engines[1].launch_key(64)
    assert [engine.launch_key(128) for engine in engines] == engines
    assert FusedEngine(stack, whole).launch_key(512) == FusedEngine(other, whole).launch_key(512)


def test_launches_that_are_queued_at_once_have_the_bits_of_one(digits: Digits, emulated: Emulated) -> None:
    """Best epochs, early stopping and divergence are carried from launch to launch on the device; some runs leave."""
    kernels = emulated[torch.float64]
    members = make_members(digits, (16,), split=few(digits), batch_size=50, optimizer=SGD, dropout=0.0)
    wild = replace(members[2].config, optimizer=replace(SGD, learning_rate=1e200))
    members = [*members, members[2]._replace(config=wild)]
    patience = [Decisions(), Decisions(patience=2, min_delta=0.2), Decisions(patience=1), Decisions()]
    one, several = (Stack.build(members, CPU, torch.float64) for _ in range(2))
    expected = FusedEngine(one, kernels).train_epochs(range(4), 1, all_due(4, 12), patience)
    engine, queued = FusedEngine(several, kernels), []
    for epoch, slots, count in ((1, [0, 1, 2, 3], 1), (2, [0, 1, 2, 3], 4), (6, [0, 1, 2], 2), (8, [0, 1], 5)):
        decisions = patience if epoch == 1 else None
        queued += queue_together([Part(engine, slots, epoch, all_due(len(slots), count), decisions)])
        if epoch == 2:
            queued[-1].keep_state()
            kept = several.select(range(4))
    assert [2 <= end < 12 for end in expected.ends] == [False, True, True, False]
    assert expected.ends[3] == 1
    for name, copy in queued[1].state.items():
        assert torch.equal(copy.nan_to_num(), getattr(kept, name).nan_to_num())
    for name in STATE:
        assert torch.equal(getattr(one, name).nan_to_num(), getattr(several, name).nan_to_num())
    stretches = [each.read() for each in queued]
    assert stretches[1].ends.tolist() == [min(5, end) for end in expected.ends.tolist()]
    assert stretches[3].ends.tolist() == expected.ends[:2].tolist()
    np.testing.assert_array_equal(np.concatenate([each.val.losses[0] for each in stretches]), expected.val.losses[0])
    steps = int(expected.ends.sum()) * one.shape.num_steps
    assert engine.num_done == steps + 2 * int(expected.ends.sum())


class IdleKernels:
    """Kernels that write nothing."""

    description = "idle"
    limits = H100

    def launch(self, *_: object, **__: object) -> None:
        pass


@pytest.fixture
def fresh_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # which fills what torch.empty returns
    assert torch.empty(1).isnan()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("fresh_memory_is_nan")
def test_results_that_no_kernel_wrote_are_zero(digits: Digits) -> None:
    """Else they would be what the memory held before: perhaps the results of kernels that work."""
    stack = Stack.build(make_members(digits, (12, 12), split=few(digits), optimizer=SGD), CPU)
    engine = FusedEngine(stack, IdleKernels())
    slots = range(stack.size)
    stretch = engine.train_epochs(slots, 1, all_due(stack.size), [Decisions()] * stack.size)
    tallies = (stretch.seen, stretch.train, stretch.val, engine.evaluate(slots, "val"))
    results: list[np.ndarray[Any, np.dtype[Any]]] = [each for tally in tallies for each in tally]
    results += [stretch.gradient_norms, stretch.weight_norms, stretch.ends]
    results += [*engine.norms(slots), engine.logits(0, stack.parameters[0], "val")]
    assert not any(result.any() for result in results)
