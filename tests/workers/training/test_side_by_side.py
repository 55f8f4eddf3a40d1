"""Stacks side by side, in shared launches of the CUDA engine, emulated: each run's bits are those of its stack alone.

An emulated launch is over when it returns, so that whatever reads a stack's tensors while the next launch is queued
would find them too far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.workers.training.conftest import CPU, Digits
from tests.workers.training.engines.emulation import EmulatedKernels
from tests.workers.training.engines.test_cuda_engine import few
from tests.workers.training.test_stretches import ADAM, Finished, as_bytes, assert_equal, members_of
from workers.training import side_by_side
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig, StoppingConfig
from workers.training.engines import choice
from workers.training.engines.cuda_engine import FusedEngine
from workers.training.engines.numba_engine import CompiledEngine
from workers.training.evaluation import Metrics
from workers.training.loop import MlpTraining, StackTraining
from workers.training.side_by_side import SideBySideTraining
from workers.training.stack import Member, Stack
from workers.training.stretches import Pace, epoch_work

pytestmark = pytest.mark.usefixtures("fused")

Judge = Callable[[MlpTraining, Metrics], bool]
Checkpoints = list[tuple[int, dict[str, bytes]]]
SGD = OptimizerConfig("sgd", 0.05, momentum=0.9)


def make(members: Sequence[Member]) -> StackTraining:
    return StackTraining(members, CPU, dtype=torch.float64)


class Trained:
    """What side by side gave the runs of some trainings, by training and run; driven as the trainer does it."""

    def __init__(self, trainings: Sequence[StackTraining], judge: Judge | None = None) -> None:
        runs = [list(training.active) for training in trainings]
        rows: dict[MlpTraining, list[Metrics]] = {run: [] for stack in runs for run in stack}
        self.checkpoints: dict[MlpTraining, Checkpoints] = {run: [] for run in rows}
        self.bests: dict[MlpTraining, Checkpoints] = {run: [] for run in rows}
        ended: dict[MlpTraining, Finished] = {}
        together = SideBySideTraining(trainings)
        while any(training.active for training in trainings):
            for training, train in together.advance():
                assert isinstance(training, StackTraining)
                for run, metrics in train():
                    assert isinstance(run, MlpTraining)
                    rows[run].append(metrics)
                    if judge is not None and judge(run, metrics):
                        run.stop()
            for run in [run for training in trainings for run in training.active]:
                if run.is_finished or run.failure:
                    ended[run] = Finished(run, rows[run], run.take_snapshots())
                    run.leave()
                else:
                    found = run.take_checkpoints()
                    self.checkpoints[run] += as_bytes([found["last"]])
                    self.bests[run] += as_bytes([found["best"]] if "best" in found else [])
        self.runs = runs
        self.ended = [[ended[run] for run in stack] for stack in runs]


def train_alone(training: StackTraining, judge: Judge | None = None) -> tuple[list[Finished], list[Checkpoints]]:
    """Train a stack epoch by epoch; returns its runs' ends, and their checkpoints after each epoch."""
    runs = list(training.active)
    rows: dict[MlpTraining, list[Metrics]] = {run: [] for run in runs}
    checkpoints: dict[MlpTraining, Checkpoints] = {run: [] for run in runs}
    ended = {}
    while training.active:
        for run, metrics in training.run_epoch():
            rows[run].append(metrics)
            if judge is not None and judge(run, metrics):
                run.stop()
        for run in list(training.active):
            if run.is_finished or run.failure:
                ended[run] = Finished(run, rows[run], run.take_snapshots())
                run.leave()
            else:
                checkpoints[run] += as_bytes([run.take_checkpoints()["last"]])
    return [ended[run] for run in runs], [checkpoints[run] for run in runs]


def fix_pace(monkeypatch: pytest.MonkeyPatch, work: int) -> None:
    """Let each launch have so much work, whatever the time that it takes."""

    class FixedPace(Pace):
        def __init__(self) -> None:
            super().__init__()
            self.limit = work

        def follow(self, _work: int, _seconds: float) -> None:
            pass

    monkeypatch.setattr(side_by_side, "Pace", FixedPace)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of stacks in each launch of several epochs."""
    counted: list[int] = []
    launch = EmulatedKernels.launch

    def count(kernels: EmulatedKernels, name: str, jobs: torch.Tensor, **options: Any) -> None:
        if name == "train_epochs":
            counted.append(options["num_jobs"])
        launch(kernels, name, jobs, **options)

    monkeypatch.setattr(EmulatedKernels, "launch", count)
    return counted


@pytest.fixture
def varied(digits: Digits) -> list[list[Member]]:
    """Stacks of three shapes, whose runs stop early, diverge, end at rungs, keep snapshots, and last differently."""
    stopping: list[dict[str, Any]] = [
        {"early_stopping": StoppingConfig(2, 0.02), "keep": "last"},
        {"early_stopping": StoppingConfig(4, 0.05), "evaluate_every": 3, "activation": "relu"},
        {"early_stopping": StoppingConfig(3), "optimizer": OptimizerConfig("adam", 0.05), "snapshots": 3},
        {"epochs": 13, "evaluate_every": 4, "keep": "last"},
    ]
    judged: list[dict[str, Any]] = [
        {"activation": "relu", "optimizer": OptimizerConfig("sgd", 1e300, momentum=0.9)},
        {"activation": "relu", "optimizer": OptimizerConfig("sgd", 1e305, momentum=0.9), "evaluate_every": 50},
        *({"activation": activation, "rungs": (3, 9)} for activation in ("tanh", "relu", "sigmoid")),
    ]
    warped = [{"schedule": CosineConfig(9), "snapshots": 4}, {"epochs": 17, "activation": "relu", "keep": "best"}]
    augmentation = AugmentationConfig(9, 1.0)
    return [
        members_of(digits, stopping, optimizer=ADAM),
        members_of(digits, judged, hidden_sizes=(40,), optimizer=SGD, dropout=0.0, batch_size=20),
        members_of(digits, warped, hidden_sizes=(24, 20), batch_size=None, optimizer=SGD, augmentation=augmentation),
    ]


def judge(run: MlpTraining, metrics: Metrics) -> bool:
    """Ends two of the runs at rungs."""
    return metrics.epoch in run.config.rungs and {2: 3, 3: 9}.get(run.config.seed) == metrics.epoch


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_stacks_side_by_side_have_the_bits_of_each_alone(
    varied: list[list[Member]], monkeypatch: pytest.MonkeyPatch, launches: list[int], epochs: int
) -> None:
    """So have their checkpoints, which are taken while the next launch has been computed already."""
    alone = [train_alone(make(members), judge) for members in varied]
    launches.clear()
    fix_pace(monkeypatch, epochs * max(epoch_work(make(members).stack.shape) for members in varied))
    trained = Trained([make(members) for members in varied], judge)
    num_ends = set()
    for (expected, checkpoints), found, runs in zip(alone, trained.ended, trained.runs, strict=True):
        for one, other in zip(found, expected, strict=True):
            if other.failure is None:
                assert_equal([one], [other])
            else:  # weights that are not numbers may differ in their signs
                assert (one.epoch, one.failure, one.rows) == (other.epoch, other.failure, other.rows)
            num_ends.add(other.epoch)
        for run, possible in zip(runs, checkpoints, strict=True):
            assert all(each in possible for each in trained.checkpoints[run])
    assert launches[0] == 3
    assert len(num_ends) >= 6, num_ends
    assert {each.epoch for ended in trained.ended for each in ended if each.failure} == {1}
    assert sum(map(len, trained.checkpoints.values())) > 0


def test_the_next_launch_is_queued_before_the_last_one_is_read(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unless a run has a rung, a snapshot or its last epoch there; a checkpoint is of the epoch that was read."""
    (member,) = members_of(digits, [{"rungs": (8,)}])
    training = make([member])
    fix_pace(monkeypatch, 2 * epoch_work(training.stack.shape))
    together, (run,) = SideBySideTraining([training]), training.active
    reached = []
    while not run.is_finished:
        for _, train in together.advance():
            train()
        ahead = len(together._series[0]._under_way)
        reached.append((run.epoch, ahead))
        assert run.take_checkpoints()["last"].epoch == run.epoch
    assert reached == [
        *((2, 1), (4, 1), (6, 1), (8, 0), (10, 1), (12, 1), (14, 1), (16, 1), (18, 1), (20, 0)),
    ]


def test_best_weights_are_of_the_epoch_that_was_read(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each launch improves on the last one, and has been computed when the best weights of that one are committed."""
    members = members_of(digits, [{"keep": "best"}], optimizer=ADAM)
    fix_pace(monkeypatch, epoch_work(make(members).stack.shape))
    trained = Trained([make(members)])
    training = make(members)
    (run,), expected = training.active, []
    while run.epoch < 19:
        training.run_epoch()
        found = run.take_checkpoints()
        expected += as_bytes([found["best"]] if "best" in found else [])
    assert len(expected) > 5
    assert trained.bests[trained.runs[0][0]] == expected


def test_a_run_that_leaves_while_a_launch_is_queued_resumes_where_it_was_read(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resumes beside a stack of another shape; the run that stayed, in a smaller stack, has its own bits too."""
    stopping = StoppingConfig(6, 0.01)
    members = members_of(digits, [{"early_stopping": stopping}, {"activation": "relu"}], optimizer=ADAM)
    (other,) = members_of(digits, [{}], hidden_sizes=(40,), optimizer=SGD)
    expected = [train_alone(make([member]))[0] for member in (*members, other)]
    training = make(members)
    fix_pace(monkeypatch, 2 * epoch_work(training.stack.shape))
    together, (leaving, staying) = SideBySideTraining([training]), training.active
    rows: dict[Any, list[Metrics]] = {leaving: [], staying: []}

    def advance() -> None:
        for _, train in together.advance():
            for run, metrics in train():
                rows[run].append(metrics)

    advance()
    advance()
    assert together._series[0]._under_way, "the next launch is queued"
    kept = leaving.take_checkpoints()
    assert kept["last"].epoch == 4
    leaving.leave()
    while not staying.is_finished:
        advance()
    assert len(rows[leaving]) == 4
    assert_equal([Finished(staying, rows[staying], [])], expected[1])
    resumed = make(members[:1])
    resumed.active[0].restore(kept["last"], kept["best"])
    fix_pace(monkeypatch, 3 * epoch_work(training.stack.shape))
    trained = Trained([resumed, make([other])])
    (again,), (beside,) = trained.ended
    again.rows = [row._replace(seconds=0.0) for row in rows[leaving]] + again.rows
    assert_equal([again, beside], [*expected[0], *expected[2]])


def test_three_shapes_take_as_many_launches_as_the_slowest_alone(
    digits: Digits, monkeypatch: pytest.MonkeyPatch, launches: list[int]
) -> None:
    widths: list[tuple[int, ...]] = [(12, 12), (24, 24), (52, 52)]
    stacks = [members_of(digits, [{}, {"activation": "relu"}], hidden_sizes=each) for each in widths]
    works = [epoch_work(make(members).stack.shape) for members in stacks]
    assert works == sorted(works)
    fix_pace(monkeypatch, 4 * works[-1])
    Trained([make(stacks[-1])])
    assert launches == [1] * 5
    launches.clear()
    Trained([make(members) for members in stacks])
    assert len(launches) == 5
    assert launches[0] == 3
    lengths = [max(1, 4 * works[-1] // work) for work in works]
    assert launches.count(3) == -(-20 // lengths[0]), "the smaller networks are done earlier"


def test_the_pace_is_that_of_all_stacks_together(digits: Digits) -> None:
    """Each launch trains an epoch at least of each; where there is time for more, of small networks for more."""
    quick = members_of(digits, [{"batch_size": None, "evaluate_every": 20}], hidden_sizes=())
    slow = members_of(digits, [{"batch_size": 1, "evaluate_every": 20}], split=few(digits, num_train=40))
    trainings = [make(quick), make(slow)]
    together = SideBySideTraining(trainings)
    for _, train in together.advance():
        train()
    assert [training.active[0].epoch for training in trainings] == [1, 1]
    runs = [training.active[0] for training in trainings]
    while not any(run.is_finished for run in runs):
        for _, train in together.advance():
            train()
    assert runs[0].epoch > runs[1].epoch


def test_a_stack_that_fails_does_not_disturb_the_others(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = [members_of(digits, [{}], hidden_sizes=each) for each in ((16,), (40,))]
    expected, _ = train_alone(make(stacks[1]))
    trainings = [make(members) for members in stacks]
    fix_pace(monkeypatch, 3 * epoch_work(trainings[1].stack.shape))
    together, (run,) = SideBySideTraining(trainings), trainings[1].active
    rows: list[Metrics] = []
    while not run.is_finished:
        for training, train in together.advance():
            found = train()
            rows += [metrics for _, metrics in found if training is trainings[1]]
        if run.epoch >= 6:
            for failed in list(trainings[0].active):
                failed.leave()
    assert_equal([Finished(run, rows, [])], expected)


def test_stacks_whose_engines_cannot_share_launches_take_turns(
    digits: Digits, emulated: dict[torch.dtype, EmulatedKernels], monkeypatch: pytest.MonkeyPatch, launches: list[int]
) -> None:
    """Two do not fit the fused engine, and one of these shapes does."""

    def make_engine(stack: Stack, **_: Any) -> Any:
        if stack.shape.layout.hidden_sizes != (48,):
            return CompiledEngine(stack, 1)
        return FusedEngine(stack, emulated[stack.parameters.dtype], threads=64)

    monkeypatch.setattr(choice, "make_engine", make_engine)
    kinds: list[dict[str, Any]] = [{"hidden_sizes": (40,)}, {"batch_size": 20}, {"hidden_sizes": (), "rungs": (7,)}]
    stacks = [members_of(digits, [{}, {"activation": "relu"}], **kind) for kind in kinds]
    alone = [train_alone(make(members))[0] for members in stacks]
    launches.clear()
    trainings = [make(members) for members in stacks]
    ends_of_turns = set()

    def judge(run: MlpTraining, metrics: Metrics) -> bool:
        ends_of_turns.add((len(run.config.rungs), metrics.epoch, run.epoch))
        return False

    trained = Trained(trainings, judge)
    for found, expected in zip(trained.ended, alone, strict=True):
        assert_equal(found, expected)
    assert set(launches) == {1}
    assert (1, 7, 7) in ends_of_turns, "a turn ends where the caller must act"
    assert any(epoch < last for _, epoch, last in ends_of_turns), "a turn may have several epochs"
