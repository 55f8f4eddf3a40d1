"""The training loop of a stack of networks, resumable at any epoch boundary.

R runs, P parameters of a network, padding included; N samples.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from workers.training.checkpoint import Array, TrainingState
from workers.training.config import NUM_PIXELS, MlpConfig, OptimizerConfig, is_due
from workers.training.evaluation import Best, EarlyStopping, Metrics, Probabilities, Score
from workers.training.layout import read_layers, widths, write_layers
from workers.training.result import MlpModel, Result
from workers.training.stack import ACTIVATIONS, Engine, Member, Stack
from workers.training.tensors import ImageTensors, SplitIndices, SplitName

# Of `Stack`, by the names of a checkpoint's arrays, and which of these an optimizer keeps.
STATE_NAMES = {"sgd": {"momentum": "first"}, "adam": {"mean": "first", "mean_square": "second"}}


def make_engine(stack: Stack, *, threads: int | None = None, is_compiled: bool = True) -> Engine:
    """The fastest engine there is for a stack's device.

    Args:
        stack: What it computes on.
        threads: That train at once on a CPU; None: as many as there are cores.
        is_compiled: False: do without Numba, as on a CPU where it is not installed.
    """
    if is_compiled and stack.parameters.device.type == "cpu":
        try:
            from workers.training.engines.numba_engine import CompiledEngine
        except ImportError:
            pass
        else:
            return CompiledEngine(stack, threads)
    from workers.training.engines.torch_engine import BatchedEngine

    return BatchedEngine(stack)


def warm_up(device: torch.device) -> None:
    """Compile what training takes, or load what an earlier process compiled, so that the first run need not wait."""
    data = ImageTensors(torch.zeros(2, NUM_PIXELS), torch.zeros(2, dtype=torch.int64))
    indices = np.arange(2, dtype=np.int32)
    config = MlpConfig(0, (1,), "tanh", 0.5, OptimizerConfig("sgd", 0.1), 1, 1, 1)
    training = StackTraining([Member(config, data, SplitIndices(indices, indices, indices))], device)
    ((run, _),) = training.run_epoch()
    run.result()


class StackTraining:
    """Networks that are trained together.

    Args:
        members: The runs; all of one shape.
        device: Where to train.
        dtype: Of parameters and all arithmetic on them.
        threads: See `make_engine`; so `is_compiled`.
        is_compiled: Whether Numba may be used.

    Raises:
        ValueError: The runs do not fit together.
    """

    def __init__(
        self,
        members: Sequence[Member],
        device: torch.device,
        *,
        dtype: torch.dtype = torch.float32,
        threads: int | None = None,
        is_compiled: bool = True,
    ) -> None:
        by_activation = sorted(
            range(len(members)), key=lambda number: ACTIVATIONS.index(members[number].config.activation)
        )
        self.stack = Stack.build([members[number] for number in by_activation], device, dtype)
        slots = {number: slot for slot, number in enumerate(by_activation)}
        self.active = [MlpTraining(self, member, slots[number]) for number, member in enumerate(members)]
        self._engine_options: dict[str, Any] = {"threads": threads, "is_compiled": is_compiled}
        self.engine = make_engine(self.stack, **self._engine_options)

    @property
    def provenance(self) -> Mapping[str, Any]:
        dtype = str(self.stack.parameters.dtype).removeprefix("torch.")
        return {"engine": self.engine.name, "threads": self.engine.threads, "dtype": dtype}

    @property
    def num_done(self) -> int:
        return self.engine.num_done

    def run_epoch(self) -> list[tuple[MlpTraining, Metrics]]:
        """Train every active run for one epoch; returns the metrics of those that are due for evaluation.

        A run whose loss is not finite gets a `failure`; it has no metrics for this epoch.

        Raises:
            ValueError: The runs are not at the same epoch.
        """
        started = time.perf_counter()
        epochs = {run.epoch for run in self.active}
        if len(epochs) != 1:
            raise ValueError(f"the runs of a stack must be at one epoch, not at {sorted(epochs)}")
        (epoch,) = epochs
        runs = sorted(self.active, key=lambda run: run.slot)
        tally = self.engine.train([run.slot for run in runs], epoch + 1)
        num_train = self.stack.shape.num_train
        seen = {}
        for run, loss, num_correct in zip(runs, tally.losses, tally.corrects, strict=True):
            run.epoch = epoch + 1
            seen[run] = Score(float(loss) / num_train, int(num_correct) / num_train)
            run.check(seen[run].loss)
        due = [run for run in runs if run.failure is None and run.is_due()]
        evaluated = self._evaluate(due, seen, started) if due else []
        seconds = time.perf_counter() - started
        for run in runs:
            run.seconds += seconds
        return evaluated

    def _evaluate(
        self, runs: Sequence[MlpTraining], seen: Mapping[MlpTraining, Score], started: float
    ) -> list[tuple[MlpTraining, Metrics]]:
        slots = [run.slot for run in runs]
        train, val = self._scores(slots, "train"), self._scores(slots, "val")
        gradient_norms, weight_norms = self.engine.norms(slots)
        seconds = time.perf_counter() - started
        evaluated = []
        for number, run in enumerate(runs):
            run.check(val[number].loss)
            run.check(train[number].loss)
            if run.failure is None:
                norms = gradient_norms[number].tolist(), weight_norms[number].tolist()
                scores = (*seen[run], *train[number], *val[number])
                metrics = Metrics(run.epoch, *scores, *norms, run.seconds + seconds)
                run.record_evaluation(metrics)
                evaluated.append((run, metrics))
        return evaluated

    def _scores(self, slots: Sequence[int], split: SplitName) -> list[Score]:
        tally = self.engine.evaluate(slots, split)
        size = self.stack.rows[split].shape[1]
        return [
            Score(float(loss) / size, int(num_correct) / size)
            for loss, num_correct in zip(tally.losses, tally.corrects, strict=True)
        ]

    def remove(self, run: MlpTraining) -> None:
        """Take a run out, whose result can no longer be asked for; the others' numbers do not change by a bit.

        When half of the slots are empty, the others move together.
        """
        self.active.remove(run)
        if self.active and len(self.active) <= self.stack.size // 2:
            runs = sorted(self.active, key=lambda each: each.slot)
            self.stack = self.stack.select([each.slot for each in runs])
            for slot, each in enumerate(runs):
                each.slot = slot
            self.engine = make_engine(self.stack, **self._engine_options)


class MlpTraining:
    """One network of a stack."""

    def __init__(self, training: StackTraining, member: Member, slot: int) -> None:
        self.config: MlpConfig = member.config
        self.slot = slot
        self.epoch = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.failure: str | None = None
        self._training = training
        self._test_labels = member.data.labels.numpy()[member.split.test]
        self._latest: Best | None = None
        self._config_values = asdict(self.config)
        self._stopping = EarlyStopping(member.config.early_stopping) if member.config.early_stopping else None
        self._has_stopped = False
        self._is_best_new = False

    @property
    def is_finished(self) -> bool:
        return self._has_stopped or self.epoch == self.config.epochs

    def is_due(self) -> bool:
        is_usual = is_due(self.epoch, evaluate_every=self.config.evaluate_every, epochs=self.config.epochs)
        return is_usual or self.epoch in self.config.rungs

    def check(self, loss: float) -> None:
        """Give the run up if a loss of it is not a finite number."""
        if not math.isfinite(loss) and self.failure is None:
            # As JSON's users write it: NaN, not nan.
            self.failure = (
                f"The loss is {json.dumps(float(loss))} at epoch {self.epoch}; a lower learning rate may help."
            )

    def record_evaluation(self, metrics: Metrics) -> None:
        """Compare an evaluated epoch with the best one, and see whether to stop."""
        self._latest = Best.of(metrics)
        if self.best is None or self.best.is_beaten_by(self._latest):
            self.best = self._latest
            stack = self._training.stack
            stack.best[self.slot] = stack.parameters[self.slot]
            self._is_best_new = True
        if self._stopping is not None:
            self._has_stopped = self._stopping.should_stop(self._latest)

    def stop(self) -> None:
        """Be finished with this epoch, which has been evaluated."""
        self._has_stopped = True

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """`last`, to resume from, and `best`, its weights alone, if new since the last call."""
        stack, config = self._training.stack, self._config_values
        values = {
            "config": config,
            "seconds": self.seconds,
            "has_stopped": self._has_stopped,
            "best": _as_dict(self.best),
            "latest": _as_dict(self._latest),
            "stopping_reference": _as_dict(self._stopping.reference if self._stopping else None),
        }
        arrays = self._read(stack.parameters)
        for name, field in STATE_NAMES[self.config.optimizer.kind].items():
            arrays |= {f"{name}.{layer}": array for layer, array in self._read(getattr(stack, field)).items()}
        found = {"last": TrainingState(self.epoch, arrays, values)}
        if self.best is not None and self._is_best_new:
            found["best"] = TrainingState(self.best.epoch, self._read(stack.best), {"config": config})
            self._is_best_new = False
        return found

    def restore(self, last: TrainingState, best: TrainingState | None) -> None:
        """Go on from checkpoints of the same configuration, exactly as if there had been no interruption.

        Raises:
            ValueError: The best weights are missing.
        """
        stack, values = self._training.stack, last.values
        self.epoch, self.seconds = last.epoch, values["seconds"]
        self._has_stopped = values["has_stopped"]
        self.best, self._latest = _as_best(values["best"]), _as_best(values["latest"])
        if self._stopping is not None:
            self._stopping.reference = _as_best(values["stopping_reference"])
        self._write(last.arrays, "", stack.parameters)
        for name, field in STATE_NAMES[self.config.optimizer.kind].items():
            self._write(last.arrays, f"{name}.", getattr(stack, field))
        if self.best is not None:
            if best is None:
                raise ValueError("the best weights are missing")
            self._write(best.arrays, "", stack.best)

    def result(self) -> Result:
        """The finished network: the best epoch's weights or the last one's, as the configuration says."""
        stack, keeps_best = self._training.stack, self.config.keep == "best"
        rows = stack.best if keeps_best else stack.parameters
        chosen = self.best if keeps_best else self._latest
        assert chosen is not None, "the last epoch is always evaluated"
        test_probabilities = test_accuracy = None
        if len(self._test_labels):
            test_probabilities = self._probabilities(rows, "test")
            test_accuracy = float((test_probabilities.argmax(axis=1) == self._test_labels).mean())
        arrays = {name: array.astype(np.float32) for name, array in self._read(rows).items()}
        numbers = range(1, len(widths(self.config.hidden_sizes)))
        layers = [(arrays[f"weights{number}"], arrays[f"biases{number}"]) for number in numbers]
        return Result(
            MlpModel(layers, self.config.activation),
            sum(array.size for array in arrays.values()),
            chosen,
            self._probabilities(rows, "val"),
            test_probabilities,
            test_accuracy,
        )

    def leave(self) -> None:
        """Go out of the stack. The others do not notice."""
        self._training.remove(self)

    def _probabilities(self, rows: torch.Tensor, split: SplitName) -> Probabilities:
        logits = self._training.engine.logits(self.slot, rows[self.slot], split)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities

    def _read(self, rows: torch.Tensor) -> dict[str, Array]:
        layout = self._training.stack.shape.layout
        return {**read_layers(layout, self.config.hidden_sizes, rows[self.slot].cpu().numpy())}

    def _write(self, arrays: Mapping[str, Array], prefix: str, rows: torch.Tensor) -> None:
        layers = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        row = rows[self.slot].cpu().numpy().copy()
        write_layers(self._training.stack.shape.layout, self.config.hidden_sizes, layers, row)
        rows[self.slot] = torch.from_numpy(row)


def _as_dict(best: Best | None) -> dict[str, Any] | None:
    return None if best is None else asdict(best)


def _as_best(values: dict[str, Any] | None) -> Best | None:
    return None if values is None else Best(**values)
