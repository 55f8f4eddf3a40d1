"""The training loop of a stack of networks, resumable at any epoch boundary. The arithmetic is in `engines`.

Shape letters: R runs in the stack, P parameters of a network, padding included; N samples of a split, C = 10 classes.
A run's slot is its row in the tensors of the stack (R × P). It changes when the stack is made smaller.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from workers.training import stretches
from workers.training.bank import Banks
from workers.training.checkpoint import Array, TrainingState
from workers.training.config import (
    NUM_PIXELS,
    AugmentationConfig,
    MlpConfig,
    OptimizerConfig,
    is_due,
    snapshot_epochs,
)
from workers.training.engines import choice
from workers.training.engines.choice import CudaEngine
from workers.training.engines.cuda_engine import FusedEngine, Part, train_together
from workers.training.evaluation import Best, EarlyStopping, Metrics, Probabilities
from workers.training.layout import read_layers, widths, write_layers
from workers.training.result import MlpModel, Result
from workers.training.stack import ACTIVATIONS, Member, Stack, Stretch
from workers.training.stretches import Planned
from workers.training.tensors import ImageTensors, SplitIndices, SplitName

# The arrays of each optimizer's state: their names in a checkpoint and in `Stack`.
STATE_NAMES = {"sgd": {"momentum": "first"}, "adam": {"mean": "first", "mean_square": "second"}}


def warm_up(device: torch.device, cuda_engine: CudaEngine = "auto") -> None:
    """Compile the kernels, or load what an earlier process compiled, so that the first run does not wait for it.

    A run of two images, one hidden unit, dropout and augmentation, trained for an epoch, compiles every kernel.
    """
    data = ImageTensors(torch.zeros(2, NUM_PIXELS), torch.zeros(2, dtype=torch.int64))
    bank = Banks().get("zeros", np.zeros((2, NUM_PIXELS), np.uint8), 1.0, 1, device)
    indices = np.arange(2, dtype=np.int32)
    config = MlpConfig(0, (1,), "tanh", 0.5, OptimizerConfig("sgd", 0.1), 1, 1, 1)
    config = replace(config, augmentation=AugmentationConfig(1, 1.0))
    member = Member(config, data, SplitIndices(indices, indices, indices), bank)
    training = StackTraining([member], device, cuda_engine=cuda_engine)
    ((run, _),) = training.run_epoch()
    run.result()


class StackTraining:
    """Networks that are trained together.

    Args:
        members: The runs, all of one shape (`stack.Shape`), in any order.
        device: The device to train on.
        dtype: The type of parameters and of all arithmetic on them.
        threads: See `choice.make_engine`.
        is_compiled: See `choice.make_engine`.
        cuda_engine: See `choice.make_engine`.

    Raises:
        ValueError: The runs differ in shape.
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        threads: int | None = None,
        is_compiled: bool = True,
        cuda_engine: CudaEngine = "auto",
    ) -> None:
        # A stack is ordered by activation, `active` as the members are: slots maps a member's number to its slot.
        by_activation = sorted(
            range(len(members)), key=lambda number: ACTIVATIONS.index(members[number].config.activation)
        )
        self.stack = Stack.build([members[number] for number in by_activation], device, dtype)
        slots = {number: slot for slot, number in enumerate(by_activation)}
        self.active = [MlpTraining(self, member, slots[number]) for number, member in enumerate(members)]
        self._engine_options: dict[str, Any] = {
            "threads": threads,
            "is_compiled": is_compiled,
            "cuda_engine": cuda_engine,
        }
        self.engine = choice.make_engine(self.stack, **self._engine_options)
        self._planned: deque[Planned[MlpTraining]] = deque()  # stretches that are not recorded yet
        self._state: Mapping[str, torch.Tensor] | None = None  # see `state_of`

    @property
    def provenance(self) -> Mapping[str, Any]:
        dtype = str(self.stack.parameters.dtype).removeprefix("torch.")
        return {"engine": self.engine.name, "threads": self.engine.threads, "dtype": dtype}

    @property
    def num_done(self) -> int:
        return self.engine.num_done

    def run_epoch(self) -> list[tuple[MlpTraining, Metrics]]:
        """Train every active run for one epoch, and evaluate those that are due.

        A run whose loss is not finite gets a `failure` and has no metrics for this epoch.

        Returns:
            The evaluated runs with their metrics.

        Raises:
            ValueError: The runs are not at the same epoch.
        """
        started = time.perf_counter()
        self._shrink()
        epoch = self._common_epoch()
        runs = sorted(self.active, key=lambda run: run.slot)  # engines take slots in ascending order
        tally = self.engine.train([run.slot for run in runs], epoch + 1)  # sums in the order of `runs`
        due, seen = [], []  # the runs to evaluate, and their scores as the forward passes saw them, with dropout
        for run, score in zip(runs, tally.means(self.stack.shape.num_train), strict=True):
            run.epoch = epoch + 1
            run.check(score[0])  # a run that diverged stays in `active` until the caller makes it leave
            if run.failure is None and run.is_due():
                due.append(run)
                seen.append(score)
        evaluated = self._evaluate(due, seen, started) if due else []
        seconds = time.perf_counter() - started
        for run in runs:
            run.seconds += seconds  # each run counts the whole time of the stack's epoch
        return evaluated

    def run_epochs(self, limit: int) -> list[tuple[MlpTraining, Metrics]]:
        """Train every active run for up to `limit` epochs in one call of the engine, or one epoch if it cannot do that.

        There are fewer epochs where the caller may have to act: at a rung, at a snapshot, at a run's last epoch. A run
        that stops early or diverges is left with the epoch and the weights at which it did; the caller must make it
        leave before the next call.

        Returns:
            The evaluated runs with their metrics, epoch by epoch, as `run_epoch` would return them.

        Raises:
            ValueError: The runs are not at the same epoch.
        """
        if not isinstance(self.engine, FusedEngine):
            return self.run_epoch()
        started = time.perf_counter()
        (stretch,) = train_together([self.plan_stretch(limit)])
        return self.record_stretch(stretch, time.perf_counter() - started)

    def plan_stretch(self, limit: int) -> Part:
        """Plan the epochs after the last planned ones, up to `limit`, as `run_epochs` trains them.

        `record_stretch` then wants what the engine gives, in the order of the plans. There may be a second plan before
        that, if `may_plan_ahead` says so.

        Raises:
            ValueError: The runs are not at the same epoch.
        """
        is_ahead = bool(self._planned)
        if not is_ahead:
            self._shrink()
        assert isinstance(self.engine, FusedEngine), "only its stacks are trained in stretches"
        after = self._planned[-1].last if is_ahead else self._common_epoch()
        runs = sorted(self.active, key=lambda run: run.slot)
        dues = stretches.find_dues(runs, after + 1, stretches.find_length(runs, after, limit))
        self._planned.append(Planned(runs, after + 1, dues))
        decisions = None if is_ahead else [stretches.known_of(run) for run in runs]
        return Part(self.engine, [run.slot for run in runs], after + 1, dues, decisions)

    @property
    def may_plan_ahead(self) -> bool:
        """Whether the stretch that was planned last can be followed by another before it is recorded.

        It cannot where the caller may have to act at its end, or where the stack is to be made smaller.
        """
        last = self._planned[-1]
        return not self._is_to_shrink and all(run.next_stop(last.first - 1) > last.last for run in self.active)

    def record_stretch(
        self, stretch: Stretch, seconds: float, state: Mapping[str, torch.Tensor] | None = None
    ) -> list[tuple[MlpTraining, Metrics]]:
        """Record the epochs of the stretch that was planned first; returns what `run_epochs` does.

        Args:
            stretch: What the engine gave.
            seconds: How long that took; each run counts the whole time of the stack.
            state: The stack's parameters, optimizer state and best parameters after this stretch (R × P each), if
                another stretch has been queued since.
        """
        planned = self._planned.popleft()
        self._state = state
        return stretches.replay(stretch, planned, self.stack.shape, seconds / planned.length)

    def state_of(self, name: str) -> torch.Tensor:
        """A field of the stack (R × P) as it is at the epoch that the runs have recorded last."""
        found: torch.Tensor = self._state[name] if self._state else getattr(self.stack, name)
        return found

    def _common_epoch(self) -> int:
        """The epoch at which all active runs are.

        Raises:
            ValueError: They are not at one.
        """
        epochs = {run.epoch for run in self.active}
        if len(epochs) != 1:
            raise ValueError(f"the runs of a stack must be at one epoch, not at {sorted(epochs)}")
        (epoch,) = epochs
        return epoch

    def _evaluate(
        self, runs: Sequence[MlpTraining], seen: Sequence[tuple[float, float]], started: float
    ) -> list[tuple[MlpTraining, Metrics]]:
        """Evaluate runs on train and val; returns those with finite losses, with their metrics.

        Args:
            runs: The runs that are due, ordered by slot.
            seen: Their losses and accuracies as seen in training.
            started: When the epoch began (`time.perf_counter()`).
        """
        slots = [run.slot for run in runs]
        train, val = self._scores(slots, "train"), self._scores(slots, "val")
        gradient_norms, weight_norms = (norms.tolist() for norms in self.engine.norms(slots))  # runs × layers each
        seconds = time.perf_counter() - started
        evaluated, improved = [], []
        scores = zip(seen, train, val, strict=True)  # loss and accuracy each, in the order of Metrics
        for run, (of_seen, of_train, of_val), gradients, weights in zip(
            runs, scores, gradient_norms, weight_norms, strict=True
        ):
            # The losses seen in training may be finite while the weights after the last step are not.
            run.check(of_val[0])
            run.check(of_train[0])
            if run.failure is None:
                metrics = Metrics(run.epoch, *of_seen, *of_train, *of_val, gradients, weights, run.seconds + seconds)
                if run.record_evaluation(metrics):
                    improved.append(run.slot)
                evaluated.append((run, metrics))
        if improved:
            self.stack.best[improved] = self.stack.parameters[improved]  # one copy for all: one each takes longer
        return evaluated

    def _scores(self, slots: Sequence[int], split: SplitName) -> list[tuple[float, float]]:
        """Mean loss and accuracy of the runs in these slots, from the engine's sums over a split."""
        return self.engine.evaluate(slots, split).means(self.stack.rows[split].shape[1])

    def remove(self, run: MlpTraining) -> None:
        """Remove a run; its `result` is not available afterwards. The other runs' bits do not change on a CPU."""
        self.active.remove(run)

    @property
    def _is_to_shrink(self) -> bool:
        return 0 < len(self.active) <= self.stack.size // 2

    def _shrink(self) -> None:
        """Move the runs into a smaller stack if half of the slots or more are empty.

        An engine that computes every slot then does not compute mostly empty ones. Done before an epoch, since many
        runs may leave between two.
        """
        if self._is_to_shrink:
            runs = sorted(self.active, key=lambda each: each.slot)
            self.stack = self.stack.select([each.slot for each in runs])
            for slot, each in enumerate(runs):
                each.slot = slot
            # An engine keeps views of one stack's tensors, so the smaller stack needs its own.
            self.engine = choice.make_engine(self.stack, **self._engine_options)


class MlpTraining:
    """One network of a stack: its progress, its best epoch, its checkpoints and its result."""

    def __init__(self, training: StackTraining, member: Member, slot: int) -> None:
        self.config: MlpConfig = member.config
        self.slot = slot
        self.epoch = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.failure: str | None = None
        self._training = training
        self._test_labels = member.data.labels.numpy()[member.split.test]
        self._latest: Best | None = None  # the last evaluated epoch, best or not
        self._config_values = _as_values(self.config)
        self._stopping = EarlyStopping(member.config.early_stopping) if member.config.early_stopping else None
        self._has_stopped = False  # before its last epoch: early stopping, or a sweep's rung
        self._is_best_new = False
        self.has_left = False  # the stack
        every, epochs = self.config.evaluate_every, self.config.epochs
        self._snapshot_epochs = frozenset(snapshot_epochs(self.config.snapshots, evaluate_every=every, epochs=epochs))
        self._stops = (*self.config.rungs, *self._snapshot_epochs, epochs)
        self._snapshots: list[TrainingState] = []  # since the last call of `take_snapshots`

    @property
    def is_finished(self) -> bool:
        return self._has_stopped or self.epoch == self.config.epochs

    def next_stop(self, after: int) -> int:
        """The next epoch at whose end the loop or its caller may have to act: a rung, a snapshot or the last one."""
        return min(stop for stop in self._stops if stop > after)

    @property
    def stopping_reference(self) -> Best | None:
        """The epoch that early stopping compares with."""
        return None if self._stopping is None else self._stopping.reference

    def is_due(self) -> bool:
        # Rungs of a sweep come on top of the configured epochs.
        is_usual = is_due(self.epoch, evaluate_every=self.config.evaluate_every, epochs=self.config.epochs)
        return is_usual or self.epoch in self.config.rungs

    def check(self, loss: float) -> None:
        """Set `failure` if a loss of the run is not a finite number; the first failure stays."""
        if not math.isfinite(loss) and self.failure is None:
            # json.dumps writes NaN and Infinity as JSON's users do; str() would write nan and inf.
            self.failure = (
                f"The loss is {json.dumps(float(loss))} at epoch {self.epoch}; a lower learning rate may help."
            )

    def record_epoch(self, metrics: Metrics, *, is_due: bool) -> bool:
        """Take in an epoch that an engine has trained, and evaluated if it was due, among others in one call.

        The engine has kept the best epoch's weights already.

        Returns:
            Whether the epoch has been evaluated, with finite losses.
        """
        self.check(metrics.train_loss)
        if self.failure is not None or not is_due:
            return False
        self.check(metrics.val_loss)
        self.check(metrics.train_eval_loss)
        if self.failure is None:
            self.record_evaluation(metrics)
        return self.failure is None

    def record_evaluation(self, metrics: Metrics) -> bool:
        """Decide whether to stop early; returns whether the epoch is the best so far, so that its weights are kept."""
        latest = self._latest = Best.of(metrics)
        is_best = self.best is None or self.best.is_beaten_by(latest)
        if is_best:
            self.best = latest
            self._is_best_new = True
        if self._stopping is not None:
            self._has_stopped = self._stopping.should_stop(latest)
        if self.epoch in self._snapshot_epochs or (self._has_stopped and self._snapshot_epochs):
            self._keep_snapshot()
        return is_best

    def stop(self) -> None:
        """Finish the run at this epoch, which has been evaluated."""
        has_snapshot = self._has_stopped or self.epoch in self._snapshot_epochs
        self._has_stopped = True
        if self._snapshot_epochs and not has_snapshot:
            self._keep_snapshot()

    def _keep_snapshot(self) -> None:
        """Copy the weights, and the digit and the confidence that they give each image of val."""
        probabilities = self._probabilities(self._training.stack.parameters, "val")  # N × C
        predictions = {
            "val_digits": probabilities.argmax(axis=1).astype(np.uint8),
            "val_confidences": probabilities.max(1),
        }
        self._snapshots.append(
            TrainingState(self.epoch, {**self._read(self._training.stack.parameters), **predictions}, {})
        )

    def take_snapshots(self) -> list[TrainingState]:
        """The snapshots since the last call: see `config.snapshot_epochs`; a run that stops early keeps its end too."""
        taken, self._snapshots = self._snapshots, []
        return taken

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """Copies of the state by role: `last`, to resume from, and `best`, if it is new since the last call.

        `best` holds weights alone, without optimizer state.
        """
        config = self._config_values
        values = {
            "config": config,
            "seconds": self.seconds,
            "has_stopped": self._has_stopped,
            "best": _as_dict(self.best),
            "latest": _as_dict(self._latest),
            "stopping_reference": _as_dict(self._stopping.reference if self._stopping else None),
        }
        # weights1, biases1, … and the same of the optimizer's state, such as momentum.weights1: without padding.
        arrays = self._read(self._training.state_of("parameters"))
        for name, field in STATE_NAMES[self.config.optimizer.kind].items():
            arrays |= {f"{name}.{layer}": array for layer, array in self._read(self._training.state_of(field)).items()}
        found = {"last": TrainingState(self.epoch, arrays, values)}
        if self.best is not None and self._is_best_new:
            best = self._read(self._training.state_of("best"))
            found["best"] = TrainingState(self.best.epoch, best, {"config": config})
            self._is_best_new = False
        return found

    def restore(self, last: TrainingState, best: TrainingState | None) -> None:
        """Continue from checkpoints of the same configuration, exactly as if there had been no interruption.

        Random numbers need no state: they depend on the seed, the epoch and the step (see `randomness`).

        Raises:
            ValueError: The best weights are missing.
        """
        stack, values = self._training.stack, last.values
        self.epoch, self.seconds = last.epoch, values["seconds"]
        self._has_stopped = values["has_stopped"]
        self.best, self._latest = _as_best(values["best"]), _as_best(values["latest"])
        if self._stopping is not None:
            self._stopping.reference = _as_best(values["stopping_reference"])
        # Parameters have no prefix: weights1. `layout.write_layers` ignores the other names, such as momentum.weights1.
        self._write(last.arrays, "", stack.parameters)
        for name, field in STATE_NAMES[self.config.optimizer.kind].items():
            self._write(last.arrays, f"{name}.", getattr(stack, field))
        if self.best is not None:
            if best is None:
                raise ValueError("the best weights are missing")
            self._write(best.arrays, "", stack.best)

    def result(self) -> Result:
        """The finished network, with the weights of the best or the last epoch, as `config.keep` says."""
        stack, keeps_best = self._training.stack, self.config.keep == "best"
        rows = stack.best if keeps_best else stack.parameters  # R × P
        chosen = self.best if keeps_best else self._latest
        assert chosen is not None, "the last epoch is always evaluated"
        test_probabilities = test_accuracy = None
        if len(self._test_labels):
            test_probabilities = self._probabilities(rows, "test")
            test_accuracy = float((test_probabilities.argmax(axis=1) == self._test_labels).mean())
        arrays = {name: array.astype(np.float32) for name, array in self._read(rows).items()}
        numbers = range(1, len(widths(self.config.hidden_sizes)))
        # Outputs × inputs and outputs, as in torch.nn.Linear.
        layers = [(arrays[f"weights{number}"], arrays[f"biases{number}"]) for number in numbers]
        return Result(
            MlpModel(layers, self.config.activation),
            sum(array.size for array in arrays.values()),  # parameters without padding
            chosen,
            self._probabilities(rows, "val"),
            test_probabilities,
            test_accuracy,
        )

    def leave(self) -> None:
        """Leave the stack; the other runs are not affected."""
        self.has_left = True
        self._training.remove(self)

    def _probabilities(self, rows: torch.Tensor, split: SplitName) -> Probabilities:
        """Predictions on a split (N × C), with this run's row of `rows` (R × P)."""
        logits = self._training.engine.logits(self.slot, rows[self.slot], split)  # N × C
        # Softmax; the largest logit is subtracted so that no exponential overflows.
        # The largest by columns takes a fifth of numpy's time for short rows.
        powers = np.exp(logits - np.ascontiguousarray(logits.T).max(axis=0)[:, None])
        probabilities: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities

    def _read(self, rows: torch.Tensor) -> dict[str, Array]:
        """This run's row of `rows` (R × P) as layers without padding."""
        layout = self._training.stack.shape.layout
        return {**read_layers(layout, self.config.hidden_sizes, rows[self.slot].cpu().numpy())}

    def _write(self, arrays: Mapping[str, Array], prefix: str, rows: torch.Tensor) -> None:
        """Write the arrays whose names begin with `prefix` to this run's row of `rows` (R × P)."""
        layers = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        row = rows[self.slot].cpu().numpy().copy()  # P; copied, since on a CPU it would be the stack's own memory
        write_layers(self._training.stack.shape.layout, self.config.hidden_sizes, layers, row)
        rows[self.slot] = torch.from_numpy(row)


def _as_values(config: MlpConfig) -> dict[str, Any]:
    """What `dataclasses.asdict` returns, in a tenth of its time; dataclasses in it have no dataclasses of their own."""
    found = vars(config).items()
    return {name: dict(vars(value)) if hasattr(value, "__dataclass_fields__") else value for name, value in found}


def _as_dict(best: Best | None) -> dict[str, Any] | None:
    return None if best is None else dict(vars(best))  # `asdict` takes ten times as long


def _as_best(values: dict[str, Any] | None) -> Best | None:
    return None if values is None else Best(**values)
