"""How fast training is beside the alternatives: run by hand, on a quiet machine.

    python tests/benchmarks/training.py            # everything; JAX, where the extra `bench` is installed
    python tests/benchmarks/training.py --epochs 5 --skip notebook

One run of this script trains the same 48 configurations for the same number of epochs, with batches of 20, by

(a) the course notebook's loop, written plainly;
(b) scikit-learn's GridSearchCV over MLPClassifier, one process per core;
(c) digitlab, each run alone, and stacked;
(d) JAX, as jit(vmap(scan(step))).

The figures exclude compilation: each program may warm up before it is measured, which takes a while. The script prints
the loss or accuracy that each program reached, which shows that it really trained; the four draw different random
numbers.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import groupby, product
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler
from torchvision.transforms import ToTensor

from workers.training.config import MlpConfig, OptimizerConfig
from workers.training.data import load_dataset, split_indices, to_image_tensors
from workers.training.device import available_cores
from workers.training.layout import Layout
from workers.training.loop import StackTraining
from workers.training.stack import Member

WIDTHS = (12, 16, 32, 50)
RATES = (0.005, 0.01, 0.03, 0.05, 0.1, 0.3)
ACTIVATIONS = ("relu", "sigmoid")
BATCH_SIZE, MOMENTUM = 20, 0.9
CPU = torch.device("cpu")
STACK_SIZES = (1, 8, 32, 128, 512)

PIXELS, LABELS = load_dataset("digits")
SPLIT = split_indices(LABELS, val_size=0.3, test_size=0.0, seed=20231110)
TENSORS = to_image_tensors(PIXELS, LABELS, "byte")
NUM_STEPS = -(-len(SPLIT.train) // BATCH_SIZE)


@dataclass(frozen=True)
class Configuration:
    width: int
    rate: float
    activation: str

    def member(self, epochs: int, *, evaluate_every: int, seed: int = 0) -> Member:
        optimizer = OptimizerConfig("sgd", self.rate, momentum=MOMENTUM)
        sizes = (self.width, self.width)
        config = MlpConfig(seed, sizes, self.activation, 0.0, optimizer, BATCH_SIZE, epochs, evaluate_every)  # type: ignore[arg-type]
        return Member(config, TENSORS, SPLIT)


CONFIGURATIONS = [Configuration(*values) for values in product(WIDTHS, RATES, ACTIVATIONS)]


@contextmanager
def stopwatch(results: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    results[name] = time.perf_counter() - started


def say(text: str = "") -> None:
    print(text, flush=True)


# (a) The notebook's loop


class Digits(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self) -> None:
        self.images = PIXELS
        self.labels = LABELS
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def train_as_the_notebook(configuration: Configuration, epochs: int) -> float:
    """Train one configuration with the notebook's loop; return the last val loss."""
    dataset = Digits()
    train = DataLoader(dataset, BATCH_SIZE, sampler=SubsetRandomSampler(SPLIT.train.tolist()))
    val = DataLoader(dataset, BATCH_SIZE, sampler=SubsetRandomSampler(SPLIT.val.tolist()))
    activation = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}[configuration.activation]
    width = configuration.width
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(64, width),
        activation(),
        torch.nn.Linear(width, width),
        activation(),
        torch.nn.Linear(width, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=configuration.rate, momentum=MOMENTUM)
    for _ in range(epochs):
        model.train()
        train_loss = 0.0
        for images, labels in train:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            torch.autograd.backward(loss)
            optimizer.step()
            train_loss += loss.item() * len(labels)
        model.eval()
        val_loss, num_correct = 0.0, 0
        with torch.no_grad():
            for images, labels in val:
                outputs = model(images)
                val_loss += functional.cross_entropy(outputs, labels).item() * len(labels)
                num_correct += int((outputs.argmax(dim=1) == labels).sum().item())
    return val_loss / len(SPLIT.val)


# (b) scikit-learn


def search_with_scikit_learn(configurations: Sequence[Configuration], epochs: int) -> list[float]:
    """Train with GridSearchCV; return the val accuracies, one per configuration, in the grid's order."""
    from joblib import parallel_config
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.neural_network import MLPClassifier

    images = (PIXELS.reshape(-1, 64) / 255).astype(np.float32)
    fold = np.full(len(LABELS), -1)
    fold[SPLIT.val] = 0
    classifier = MLPClassifier(
        solver="sgd",
        tol=0,
        n_iter_no_change=10**9,
        batch_size=BATCH_SIZE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        alpha=0.0,
        max_iter=epochs,
        random_state=0,
    )
    grid = [
        {
            "hidden_layer_sizes": [(each.width, each.width)],
            "learning_rate_init": [each.rate],
            "activation": ["logistic" if each.activation == "sigmoid" else "relu"],
        }
        for each in configurations
    ]
    search = GridSearchCV(classifier, grid, n_jobs=-1, refit=False, cv=PredefinedSplit(fold))
    with warnings.catch_warnings(), parallel_config(backend="loky", inner_max_num_threads=1):
        warnings.simplefilter("ignore")
        search.fit(images, LABELS)
    return [float(score) for score in search.cv_results_["mean_test_score"]]


# (c) digitlab


def train_stack(members: Sequence[Member], **options: Any) -> StackTraining:
    training = StackTraining(members, CPU, **options)
    while not training.active[0].is_finished:
        training.run_epoch()
    return training


def divide_into_stacks(configurations: Sequence[Configuration]) -> list[list[Configuration]]:
    """Group configurations by their padded widths, as the queue does."""

    def shape(each: Configuration) -> tuple[int, ...]:
        return Layout.of((each.width, each.width)).sizes

    return [list(stack) for _, stack in groupby(sorted(configurations, key=shape), key=shape)]


def microseconds_per_run_and_step(width: int, size: int, *, activation: str = "sigmoid", **options: Any) -> float:
    """Return the time of the fastest of several epochs without evaluation, per run and optimizer step."""
    stack = [
        Configuration(width, 0.05, activation).member(10**6, evaluate_every=10**6, seed=seed) for seed in range(size)
    ]
    training = StackTraining(stack, CPU, **options)
    slots = range(size)
    return _best_time(lambda epoch: training.engine.train(slots, epoch)) / NUM_STEPS / size * 1e6


def microseconds_in_sub_stacks(width: int, size: int, at_once: int, threads: int) -> float:
    """Measure batched torch operations: several single-threaded stacks, each with a part of the runs, train at once."""
    members = [
        Configuration(width, 0.05, "sigmoid").member(10**6, evaluate_every=10**6, seed=seed) for seed in range(size)
    ]
    parts = [
        StackTraining(members[start : start + at_once], CPU, is_compiled=False) for start in range(0, size, at_once)
    ]
    with ThreadPoolExecutor(threads) as pool:

        def run(epoch: int) -> None:
            list(pool.map(lambda part: part.engine.train(range(part.stack.size), epoch), parts))

        return _best_time(run) / NUM_STEPS / size * 1e6


def microseconds_with_autograd(width: int, _size: int) -> float:
    """Measure a plain fast loop: one run with torch.nn and torch.optim, its data in one tensor."""
    model = torch.nn.Sequential(
        torch.nn.Linear(64, width),
        torch.nn.Sigmoid(),
        torch.nn.Linear(width, width),
        torch.nn.Sigmoid(),
        torch.nn.Linear(width, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=MOMENTUM, fused=True)
    images, labels = TENSORS.images[SPLIT.train], TENSORS.labels[SPLIT.train]

    def run(_epoch: int) -> None:
        order = torch.randperm(len(images))
        for batch in torch.split(order, BATCH_SIZE):
            optimizer.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(images[batch]), labels[batch]))
            optimizer.step()

    return _best_time(run) / NUM_STEPS * 1e6


def _best_time(run: Callable[[int], object]) -> float:
    """Return the seconds of the fastest call: at least 3 calls, and more (up to 200) until they take 1.5 s together."""
    run(1)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1.5 and len(times) < 200):
        started = time.perf_counter()
        run(len(times) + 2)
        times.append(time.perf_counter() - started)
    return min(times)


# (d) JAX


def make_jax_trainer(width: int, activation: str) -> Callable[..., Any]:
    """Return a function that trains R networks for some epochs: jit(vmap(scan over epochs(scan over steps)))."""
    import jax
    import jax.numpy as jnp

    images = jnp.asarray(TENSORS.images[SPLIT.train].numpy())
    one_hot = jnp.eye(10, dtype=jnp.float32)[LABELS[SPLIT.train]]
    padding = NUM_STEPS * BATCH_SIZE - len(images)
    sizes = np.full(NUM_STEPS, BATCH_SIZE)
    sizes[-1] -= padding
    shares = jnp.asarray((np.arange(BATCH_SIZE) < sizes[:, None]) / sizes[:, None], jnp.float32)
    activate = jax.nn.sigmoid if activation == "sigmoid" else jax.nn.relu
    layer_sizes = [(64, width), (width, width), (width, 10)]

    def initialise(key: Any) -> Any:
        keys = jax.random.split(key, 6)
        bounds = [inputs**-0.5 for inputs, _ in layer_sizes]
        return [
            (
                jax.random.uniform(keys[2 * number], shape, jnp.float32, -bound, bound),
                jax.random.uniform(keys[2 * number + 1], shape[1:], jnp.float32, -bound, bound),
            )
            for number, (shape, bound) in enumerate(zip(layer_sizes, bounds, strict=True))
        ]

    def loss(parameters: Any, x: Any, targets: Any, share: Any) -> Any:
        *hidden, (weights, biases) = parameters
        for layer_weights, layer_biases in hidden:
            x = activate(x @ layer_weights + layer_biases)
        return -(share[:, None] * targets * jax.nn.log_softmax(x @ weights + biases)).sum()

    def train(key: Any, rate: Any, epochs: int) -> Any:
        parameters = initialise(key)
        momenta = jax.tree.map(jnp.zeros_like, parameters)

        def step(state: Any, batch: Any) -> Any:
            parameters, momenta = state
            rows, share = batch
            value, gradients = jax.value_and_grad(loss)(parameters, images[rows], one_hot[rows], share)
            momenta = jax.tree.map(lambda momentum, gradient: MOMENTUM * momentum + gradient, momenta, gradients)
            return (jax.tree.map(lambda each, momentum: each - rate * momentum, parameters, momenta), momenta), value

        def epoch(state: Any, epoch_key: Any) -> Any:
            order = jnp.pad(jax.random.permutation(epoch_key, len(images)), (0, padding))
            return jax.lax.scan(step, state, (order.reshape(NUM_STEPS, BATCH_SIZE), shares))

        _, values = jax.lax.scan(epoch, (parameters, momenta), jax.random.split(key, epochs))
        return values[-1].mean()

    trainer: Callable[..., Any] = jax.jit(jax.vmap(train, in_axes=(0, 0, None)), static_argnums=2)
    return trainer


def train_with_jax(trainer: Callable[..., Any], seeds: Sequence[int], rates: Sequence[float], epochs: int) -> Any:
    import jax
    import jax.numpy as jnp

    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    return trainer(keys, jnp.asarray(rates, jnp.float32), epochs).block_until_ready()


def microseconds_with_jax(width: int, size: int) -> float:
    trainer, epochs = make_jax_trainer(width, "sigmoid"), 20 if size <= 32 else 4
    seconds = _best_time(lambda _epoch: train_with_jax(trainer, range(size), [0.05] * size, epochs))
    return seconds / epochs / NUM_STEPS / size * 1e6


# Output


def compare_sweeps(epochs: int, skipped: set[str]) -> None:
    seconds: dict[str, float] = {}
    say(f"48 configurations × {epochs} epochs × {NUM_STEPS} steps of {BATCH_SIZE}")
    stacks = divide_into_stacks(CONFIGURATIONS)
    described = [f"{len(stack)} runs of widths {sorted({each.width for each in stack})}" for stack in stacks]
    say(f"digitlab's stacks: {', '.join(described)}")
    if "notebook" not in skipped:
        with stopwatch(seconds, "notebook"):
            losses = [train_as_the_notebook(each, epochs) for each in CONFIGURATIONS]
        say(f"(a) notebook's loop: {seconds['notebook']:.1f} s, best val loss {min(losses):.4f}")
    if "sklearn" not in skipped:
        search_with_scikit_learn(CONFIGURATIONS[:4], 1)  # starts the processes
        with stopwatch(seconds, "sklearn"):
            scores = search_with_scikit_learn(CONFIGURATIONS, epochs)
        say(f"(b) GridSearchCV: {seconds['sklearn']:.1f} s, best val accuracy {max(scores):.4f}")

    for name, every in (("every epoch", 1), ("at the end", epochs)):
        for stack in stacks:  # compiles the kernels
            train_stack([stack[0].member(1, evaluate_every=1)])
        with stopwatch(seconds, f"stacked, evaluated {name}"):
            trained = [train_stack([each.member(epochs, evaluate_every=every) for each in stack]) for stack in stacks]
        bests = [run.best for training in trained for run in training.active if run.best]
        best = max(bests, key=lambda best: best.val_accuracy)
        with stopwatch(seconds, f"each alone, evaluated {name}"):
            for each in CONFIGURATIONS:
                train_stack([each.member(epochs, evaluate_every=every)])
        stacked, alone = seconds[f"stacked, evaluated {name}"], seconds[f"each alone, evaluated {name}"]
        say(f"(c) digitlab, evaluated {name}: stacked {stacked:.3f} s, each alone {alone:.3f} s,")
        say(f"    best val accuracy {best.val_accuracy:.4f}, loss {best.val_loss:.4f}")
    if "jax" not in skipped:
        groups = [list(group) for _, group in groupby(CONFIGURATIONS, key=lambda each: each.width)]
        trainers = {key: make_jax_trainer(*key) for key in product(WIDTHS, ACTIVATIONS)}
        for is_measured in (False, True):
            with stopwatch(seconds, "jax"):
                losses = []
                for group in groups:
                    for activation in ACTIVATIONS:
                        rates = [each.rate for each in group if each.activation == activation]
                        trainer = trainers[group[0].width, activation]
                        losses.append(float(train_with_jax(trainer, range(len(rates)), rates, epochs).min()))
            if is_measured:
                say(f"(d) JAX, 8 vmaps of 6 runs, never evaluated: {seconds['jax']:.3f} s,")
                say(f"    best train loss {min(losses):.4f}")
    say()
    for rival in ("notebook", "sklearn", "jax"):
        if rival in seconds:
            ratios = {
                name: seconds[rival] / value
                for name, value in seconds.items()
                if name.startswith(("stacked", "each alone"))
            }
            say(f"{rival}: " + ", ".join(f"{ratio:.1f}× {name}" for name, ratio in ratios.items()))


def compare_steps(skipped: set[str]) -> None:
    cores = available_cores()
    peak = _peak_multiply_adds()
    say(f"\nMicroseconds per run and step, batch {BATCH_SIZE}, sigmoid; {cores} cores, each {peak / 1e9:.0f} billion")
    say("multiply-adds a second at best (a 1024 × 1024 matrix product in torch, one thread)\n")
    header = " | ".join(f"R = {size}" for size in STACK_SIZES)
    for width in (12, 52):
        needed = _multiply_adds(width)
        say(f"{width}-{width}: {needed:,} multiply-adds a step; limit {needed / peak * 1e6:.2f} µs on one core\n")
        say(f"| {width}-{width} | {header} |")
        say("|---" * (len(STACK_SIZES) + 1) + "|")
        _say_row("digitlab", partial(microseconds_per_run_and_step, width), STACK_SIZES)
        _say_row("digitlab, one thread", partial(microseconds_per_run_and_step, width, threads=1), STACK_SIZES)
        if "batched" not in skipped:
            batched = partial(microseconds_per_run_and_step, width, is_compiled=False)
            _say_row("torch, batched by hand", batched, STACK_SIZES)
            in_parts = partial(microseconds_in_sub_stacks, width, at_once=16, threads=cores)
            _say_row(f"the same in stacks of 16, {cores} at once", in_parts, STACK_SIZES[2:])
            _say_row("torch.nn, torch.optim", partial(microseconds_with_autograd, width), STACK_SIZES[:1])
        if "jax" not in skipped:
            _say_row("JAX, jit(vmap(scan))", partial(microseconds_with_jax, width), STACK_SIZES)
        say()


def _say_row(name: str, measure: Callable[[int], float], sizes: Sequence[int]) -> None:
    values = [f"{measure(size):.1f}" if size in sizes else "" for size in STACK_SIZES]
    say(f"| {name} | {' | '.join(values)} |")


def _multiply_adds(width: int) -> int:
    """Return a step's multiply-adds in matrix products.

    They are those of the forward pass, of the weight gradients, and of the input gradients of all layers but the first.
    """
    first, others = 64 * width, width * width + width * 10
    return BATCH_SIZE * (2 * first + 3 * others)


def _peak_multiply_adds() -> float:
    """Measure multiply-adds per second on one core."""
    matrix = torch.rand(1024, 1024)
    return float(1024**3 / _best_time(lambda _epoch: torch.mm(matrix, matrix)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=["notebook", "sklearn", "jax", "batched", "sweep", "steps"]
    )
    arguments = parser.parse_args()
    skipped = set(arguments.skip)
    if find_spec("jax") is None and "jax" not in skipped:
        say("JAX is left out: it is not installed (pip install 'digitlab[bench]')")
        skipped.add("jax")
    torch.set_num_threads(1)
    say(f"{platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}")
    if "sweep" not in skipped:
        compare_sweeps(arguments.epochs, skipped)
    if "steps" not in skipped:
        compare_steps(skipped)


if __name__ == "__main__":
    main()
