"""Stacks that are trained side by side: in launches that they share, where their engines can do that, else in turns.

The next launch is queued before the results of the last one are read, unless the caller may have to act between them:
the device goes on while the host records.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from workers.training import TrainingLoop, TrainingRun
from workers.training.engines.cuda_engine import FusedEngine, Queued, queue_together
from workers.training.evaluation import Metrics
from workers.training.loop import StackTraining
from workers.training.stretches import CALL_SECONDS, Pace, epoch_work, find_length

Evaluations = Sequence[tuple[TrainingRun, Metrics]]
Step = tuple[TrainingLoop, Callable[[], Evaluations]]


class SideBySideTraining:
    """Trains some stacks, forests and ensembles, each at an epoch of its own.

    Args:
        trainings: Their engines stay of the same kind.
    """

    def __init__(self, trainings: Sequence[TrainingLoop]) -> None:
        fused = [each for each in trainings if isinstance(each, StackTraining) and isinstance(each.engine, FusedEngine)]
        self._series = [_Launches(group) for group in _group(fused)]
        self._others = [each for each in trainings if each not in fused]

    def advance(self) -> Iterator[Step]:
        """Train all that is active for a while.

        Yields:
            Each training with a function that must be called at once: it returns the evaluated runs with their
            metrics. An error that it raises concerns this training alone. Runs that end must leave before the next
            call of `advance`.
        """
        for launches in self._series:
            yield from launches.advance()
        others = [training for training in self._others if training.active]
        is_alone = len(others) == 1 and not any(launches.is_active for launches in self._series)
        for training in others:
            if isinstance(training, StackTraining) and not is_alone:
                yield training, partial(_take_turn, training)
            else:
                yield training, training.run_epoch


class _Launch(NamedTuple):
    trainings: Sequence[StackTraining]
    stretches: Sequence[Queued]  # one for each training
    work: int  # of the training that takes longest
    queued_at: float  # `time.perf_counter()`


class _Launches:
    """One launch after the other, shared by all of these trainings that are not over."""

    def __init__(self, trainings: Sequence[StackTraining]) -> None:
        self._trainings = trainings
        self._pace = Pace()
        self._under_way: deque[_Launch] = deque()  # at most two
        self._read_at = 0.0  # when the last results were there

    @property
    def is_active(self) -> bool:
        return any(training.active for training in self._trainings)

    def advance(self) -> Iterator[Step]:
        """Queue what can be queued, and read the oldest launch."""
        trainings = [training for training in self._trainings if training.active]
        if not trainings:
            return
        if not self._under_way:
            self._queue(trainings)
        if all(training.may_plan_ahead for training in trainings):
            for stretch in self._under_way[-1].stretches:
                stretch.keep_state()
            self._queue(trainings)
        launch = self._under_way.popleft()
        results = [stretch.read() for stretch in launch.stretches]
        now = time.perf_counter()
        seconds = now - max(launch.queued_at, self._read_at)
        self._read_at = now
        self._pace.follow(launch.work, seconds)
        for training, stretch, result in zip(launch.trainings, launch.stretches, results, strict=True):
            if training.active:
                yield training, partial(training.record_stretch, result, seconds, stretch.state)

    def _queue(self, trainings: Sequence[StackTraining]) -> None:
        """Queue a launch in which each training has about as much work as the others."""
        queued_at = time.perf_counter()
        works = [epoch_work(training.stack.shape) for training in trainings]
        parts = [
            training.plan_stretch(max(1, self._pace.limit // work))
            for training, work in zip(trainings, works, strict=True)
        ]
        longest = max(work * part.dues.shape[1] for work, part in zip(works, parts, strict=True))
        self._under_way.append(_Launch(trainings, queue_together(parts), longest, queued_at))


def _group(trainings: Sequence[StackTraining]) -> list[list[StackTraining]]:
    """The trainings that can share launches with each other."""
    groups: dict[Hashable, list[StackTraining]] = defaultdict(list)
    engines = {training: training.engine for training in trainings if isinstance(training.engine, FusedEngine)}
    threads = max((engine.plan.threads for engine in engines.values()), default=0)
    for training, engine in engines.items():
        groups[engine.launch_key(threads)].append(training)
    return list(groups.values())


def _take_turn(training: StackTraining) -> Evaluations:
    """Train epoch by epoch for about as long as a launch takes, or until the caller may have to act."""
    until = time.perf_counter() + CALL_SECONDS
    evaluated: list[tuple[TrainingRun, Metrics]] = []
    for _ in range(find_length(training.active, training.active[0].epoch, sys.maxsize)):
        evaluated += training.run_epoch()
        has_ended = any(run.failure is not None or run.is_finished for run in training.active)
        if has_ended or time.perf_counter() >= until:
            break
    return evaluated
