"""How fast `POST /predict` is beside a bare FastAPI app: run by hand, on a quiet machine with two cores or more.

    python tests/benchmarks/predict.py            # all tables, about twelve minutes
    python tests/benchmarks/predict.py --only quiet --rounds 3 --seconds 2

wrk (https://github.com/wg/wrk; Debian package wrk) measures, in one run of this script:

- quiet: the model of a small run, `dropout-tanh` (24-24) for 400 epochs, with 1 and 256 images of the val
  split, JSON and bytes, while nothing else runs;
- training: the same while a worker trains a stack of runs on all cores of the same machine;
- pictures: the same while a client requests a run's curves in a loop, and each picture is drawn anew;
- default: 256 images by the model of the default run (`POST /runs {}`), seven times as large.

The API runs with its default settings, its logging and all its middleware. The bare app is one async GET that returns
{"ok": true}, in a uvicorn process of its own; it has no access log, which makes the comparison harder for the API. Both
are pinned to one core and wrk to another. They take turns (bare, case, bare, case, …) through all cases. A case's share
is the median of its requests/s divided by the median of the bare app's requests/s just before and after it, since
machines drift; brackets hold the lowest and the highest share of single rounds. While the bare app is measured, the API
gets no requests and polls for a new champion, as always.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

SMALL_RUN = {"preset": "dropout-tanh", "name": "small run", "training": {"epochs": 400}}

BARE_APP = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def ok() -> dict[str, bool]:
    return {"ok": True}
"""
# These runs last longer than all rounds and are cancelled afterwards.
LONG_RUN = {"name": "load", "training": {"epochs": 100_000, "early_stopping": None}}
NUM_LONG_RUNS = 8
BINARY, JSON = "application/octet-stream", "application/json"
SENDS_BYTES, WANTS_BYTES, SENDS_JSON = {"Content-Type": BINARY}, {"Accept": BINARY}, {"Content-Type": JSON}
LEAN = "probabilities=false"
WARM_UP_SECONDS = 1
TABLES = ("quiet", "training", "pictures", "default")
PATIENCE_SECONDS = 180
# wrk's own summary is rounded and its units change; this script prints exact numbers in fixed units.
LUA_DONE = """
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %f, "p99": %f, "non_2xx": %d, "socket": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""


@dataclass(frozen=True)
class Case:
    """A kind of `/predict` request; `target` is the share of the bare app's requests/s that it should reach."""

    name: str
    num_images: int
    sends_bytes: bool = False
    wants_bytes: bool = False
    query: str = ""
    target: float | None = None


CASES = (
    Case("1 image, JSON", 1, target=0.65),
    Case("1 image, bytes in, bytes out", 1, sends_bytes=True, wants_bytes=True),
    Case("256 images, JSON", 256, target=0.035),
    Case("256 images, JSON, `?probabilities=false`", 256, query=LEAN),
    Case("256 images, bytes, `?probabilities=false`", 256, sends_bytes=True, query=LEAN, target=0.5),
    Case("256 images, bytes in, bytes out", 256, sends_bytes=True, wants_bytes=True),
)


@dataclass(frozen=True)
class Load:
    """The URL that wrk requests and the script that makes its requests."""

    url: str
    script: Path


@dataclass(frozen=True)
class Measurement:
    requests_per_second: float
    p50_ms: float
    p99_ms: float


@dataclass
class Rounds:
    """A case's measurements, and for each the bare app's mean requests/s of just before and just after."""

    case: Case
    measured: list[Measurement] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)


def say(text: str = "") -> None:
    print(text, flush=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


# wrk


@dataclass(frozen=True)
class Wrk:
    """wrk on a core of its own."""

    core: int
    connections: int
    seconds: int

    def measure(self, load: Load, seconds: int | None = None) -> Measurement:
        options = ["-t1", f"-c{self.connections}", f"-d{seconds or self.seconds}s", "-s", str(load.script), load.url]
        command = ["taskset", "-c", str(self.core), "wrk", *options]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"wrk failed on {load.url}: {ended.stdout}{ended.stderr}")
        counted = json.loads(ended.stdout.splitlines()[-1])
        if counted["non_2xx"] or counted["socket"] or not counted["requests"]:
            raise SystemExit(f"Not all requests to {load.url} were answered well: {counted}")
        rate = counted["requests"] / counted["microseconds"] * 1e6
        return Measurement(rate, counted["p50"] / 1000, counted["p99"] / 1000)


def write_script(path: Path, method: str, headers: Mapping[str, str], body: bytes) -> Path:
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    if body:
        lines.append('wrk.body = "' + "".join(f"\\{byte:03d}" for byte in body) + '"')
    path.write_text("\n".join([f'wrk.method = "{method}"', *lines, LUA_DONE]))
    return path


# The processes


@dataclass(frozen=True)
class Bench:
    """A temporary data folder, and the API and the bare app, which share one core in turn."""

    folder: Path
    core: int
    client: httpx2.Client
    bare_url: str

    @contextmanager
    def start(self, *arguments: str, core: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Python process as long as the context lasts; all processes log to one file."""
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        with (self.folder / "log").open("ab") as log:
            command = [*pinned, sys.executable, "-m", *arguments]
            # A session of its own keeps a terminal's Ctrl-C away from the process; this script then stops it.
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(), stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            stop(process)

    @contextmanager
    def serve(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run both apps until the context ends; yield the API's process once both respond."""
        (self.folder / "bare.py").write_text(BARE_APP)
        api = ("app.cli", "api", "--port", str(self.client.base_url.port))
        bare = ("uvicorn", "bare:app", "--no-access-log", "--host", "127.0.0.1")
        port = str(httpx2.URL(self.bare_url).port)
        with self.start("app.cli", "migrate") as migration:
            if migration.wait(PATIENCE_SECONDS):
                raise SystemExit(f"The database could not be migrated.\n{self.log_tail()}")
        with self.start(*api, core=self.core) as process, self.start(*bare, "--port", port, core=self.core):
            self.wait_for(lambda: self.client.get("/health/live").is_success)
            self.wait_for(lambda: httpx2.get(self.bare_url).is_success)
            yield process

    def get(self, path: str, **parameters: str | int) -> Any:
        return self.client.get(path, params=parameters).raise_for_status().json()

    def submit(self, document: Mapping[str, Any]) -> str:
        run_id: str = self.client.post("/runs", json=dict(document)).raise_for_status().json()["id"]
        return run_id

    def train(self, document: Mapping[str, Any]) -> str:
        """Train a run with a worker of its own; return the run's id once its model predicts."""
        run_id = self.submit(document)
        with self.start("app.cli", "worker"):
            self.wait_for(lambda: self.get(f"/runs/{run_id}")["status"] not in ("queued", "running"))
            self.wait_for(lambda: self.client.post("/predict", content=bytes(64), headers=SENDS_BYTES).is_success)
        run = self.get(f"/runs/{run_id}")
        if run["status"] != "succeeded":
            raise SystemExit(f"The run {run['status']}: {run['error']}")
        say(f"Trained: {run_id}, {run['num_parameters']:,} parameters, val accuracy {run['best']['val_accuracy']:.4f}")
        return run_id

    @contextmanager
    def training(self) -> Iterator[None]:
        """Have a worker train many runs as long as the context lasts, and check that it does."""
        run_ids = [self.submit(LONG_RUN | {"seed": seed}) for seed in range(NUM_LONG_RUNS)]
        with self.start("app.cli", "worker"):
            self.wait_for(lambda: self.is_training(run_ids))
            first, started = self.epochs(run_ids), time.monotonic()
            yield
            if not self.is_training(run_ids):
                raise SystemExit("The worker did not train until the end: its runs are too short.")
            rate = (self.epochs(run_ids) - first) / (time.monotonic() - started)
            say(f"\nThe worker trained {NUM_LONG_RUNS} runs of 128-64 meanwhile, {rate:.0f} epochs a second together.")
            for run_id in run_ids:
                self.client.post(f"/runs/{run_id}/cancel").raise_for_status()

    @contextmanager
    def drawing(self, run_id: str) -> Iterator[None]:
        """Have a client request a run's curves repeatedly as long as the context lasts."""
        is_over, times = threading.Event(), []

        def ask() -> None:
            with httpx2.Client(base_url=self.client.base_url, timeout=60) as client:
                while not is_over.is_set():
                    started = time.monotonic()
                    client.get(f"/runs/{run_id}/curves.png").raise_for_status()
                    times.append(time.monotonic() - started)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            self.wait_for(lambda: len(times) > 1)
            yield
        finally:
            is_over.set()
            thread.join()
        say(f"\n{len(times)} pictures were drawn meanwhile, {median(times):.2f} s each (median).")

    def is_training(self, run_ids: Sequence[str]) -> bool:
        claimed = [run_id for worker in self.get("/workers")["data"] for run_id in worker["run_ids"]]
        return set(run_ids) <= set(claimed) and self.epochs(run_ids) > 0

    def epochs(self, run_ids: Sequence[str]) -> int:
        return sum(self.get(f"/runs/{run_id}")["progress"]["epoch"] for run_id in run_ids)

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                if what():
                    return
            time.sleep(0.05)
        raise SystemExit(f"Waited in vain; the processes say:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return (self.folder / "log").read_text()[-2000:]

    def _environment(self) -> dict[str, str]:
        """Return an environment with default settings, without the caller's DIGITLAB_ variables."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("DIGITLAB_")}
        return others | {"DIGITLAB_DATA_DIR": str(self.folder / "data")}


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# Requests


def read_images(bench: Bench, number: int) -> list[list[list[int]]]:
    samples = bench.get("/datasets/digits/samples", split="val", limit=number)["data"]
    return [sample["pixels"] for sample in samples]


def prepare(bench: Bench, case: Case, images: Sequence[list[list[int]]], run_id: str, script: Path) -> Load:
    """Write the case's script, and send one request: the right model must predict every image."""
    asked = images[: case.num_images]
    pixels = bytes(pixel for image in asked for row in image for pixel in row)
    document = json.dumps({"instances": asked}, separators=(",", ":")).encode()
    body = pixels if case.sends_bytes else document
    headers = (SENDS_BYTES if case.sends_bytes else SENDS_JSON) | (WANTS_BYTES if case.wants_bytes else {})
    url = bench.client.base_url.join("/predict" + (f"?{case.query}" if case.query else ""))
    answer = bench.client.post(url, content=body, headers=headers).raise_for_status()
    answered_by = answer.headers["Model-Run-Id"] if case.wants_bytes else answer.json()["model"]["run_id"]
    num_answers = len(answer.content) if case.wants_bytes else len(answer.json()["predictions"])
    if (answered_by, num_answers) != (run_id, case.num_images):
        raise SystemExit(f"{case.name}: run {answered_by} answered about {num_answers} images, not run {run_id}.")
    return Load(str(url), write_script(script, "POST", headers, body))


def measure(bench: Bench, wrk: Wrk, cases: Sequence[Case], run_id: str, num_rounds: int) -> None:
    """Let the bare app and the cases take turns, and print the table."""
    images = read_images(bench, max(case.num_images for case in cases))
    bare_load = Load(bench.bare_url, write_script(bench.folder / "bare.lua", "GET", {}, b""))
    scripts = [bench.folder / f"{number}.lua" for number in range(len(cases))]
    loads = {case: prepare(bench, case, images, run_id, path) for case, path in zip(cases, scripts, strict=True)}
    for load in (bare_load, *loads.values()):
        wrk.measure(load, WARM_UP_SECONDS)
    bare = [wrk.measure(bare_load)]
    results = [Rounds(case) for case in cases]
    for number in range(num_rounds):
        print(f"round {number + 1} of {num_rounds}", file=sys.stderr, flush=True)
        for result in results:
            result.measured.append(wrk.measure(loads[result.case]))
            bare.append(wrk.measure(bare_load))
            result.beside.append(mean(each.requests_per_second for each in bare[-2:]))
    say_table(bare, results)


# Output


def say_table(bare: Sequence[Measurement], results: Sequence[Rounds]) -> None:
    say("\n| | requests/s | images/s | p50, ms | p99, ms | share of the bare app's requests/s | target |")
    say("|---" * 7 + "|")
    bare_rate, bare_p50, bare_p99 = medians(bare)
    rates = [each.requests_per_second for each in bare]
    spread = f"1 ({min(rates) / bare_rate:.2f}–{max(rates) / bare_rate:.2f})"
    say(f"| bare FastAPI app | {bare_rate:,.0f} | | {bare_p50:.2f} | {bare_p99:.2f} | {spread} | |")
    for result in results:
        case = result.case
        rate, p50, p99 = medians(result.measured)
        share = rate / median(result.beside)
        ratios = [
            each.requests_per_second / beside for each, beside in zip(result.measured, result.beside, strict=True)
        ]
        cells = [case.name, f"{rate:,.0f}", f"{rate * case.num_images:,.0f}", f"{p50:.2f}", f"{p99:.2f}"]
        cells += [f"{share:.3f} ({min(ratios):.3f}–{max(ratios):.3f})", describe_target(case.target, share)]
        say(f"| {' | '.join(cells)} |")


def medians(measured: Sequence[Measurement]) -> tuple[float, float, float]:
    """Return the medians of requests/s, p50 and p99."""
    rate = median(each.requests_per_second for each in measured)
    return rate, median(each.p50_ms for each in measured), median(each.p99_ms for each in measured)


def describe_target(target: float | None, share: float) -> str:
    return "" if target is None else f"{target:g}: {'reached' if share >= target else 'missed'}"


def describe_machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    cpu = names[0].partition(":")[2].strip() if names else platform.machine()
    versions = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "onnxruntime"))
    return f"{cpu}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, {versions}"


def resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = [line.split()[1] for line in status if line.startswith("VmRSS:")]
    return int(kibibytes) * 1024 / 1e6


def run(bench: Bench, wrk: Wrk, tables: Sequence[str], num_rounds: int) -> None:
    without_target = [replace(case, target=None) for case in CASES]
    fewer_rounds = max(3, num_rounds // 2)
    small_run = bench.train(SMALL_RUN)
    if "quiet" in tables:
        say(f"\nThe small run's model, medians of {num_rounds} rounds of {wrk.seconds} s:")
        measure(bench, wrk, CASES, small_run, num_rounds)
    if "training" in tables:
        say(f"\nThe same while a worker trains, medians of {fewer_rounds} rounds of {wrk.seconds} s:")
        with bench.training():
            measure(bench, wrk, without_target, small_run, fewer_rounds)
    if "pictures" in tables:
        say(f"\nThe same while curves are drawn in a loop, medians of {fewer_rounds} rounds of {wrk.seconds} s:")
        with bench.drawing(small_run):
            measure(bench, wrk, without_target, small_run, fewer_rounds)
    if "default" in tables:
        default_run = bench.train({})
        say(f"\nThe default run's model, medians of {fewer_rounds} rounds of {wrk.seconds} s:")
        asked = [
            replace(case, query=f"run_id={default_run}" + (f"&{case.query}" if case.query else ""))
            for case in without_target
            if case.num_images > 1
        ]
        measure(bench, wrk, asked, default_run, fewer_rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="of the quiet table; half as many for the others [7]")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement [3]")
    parser.add_argument("--connections", type=int, default=16, help="that wrk holds open [16]")
    parser.add_argument("--only", choices=TABLES, help="one table instead of all")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    for name, package in (("wrk", "wrk"), ("taskset", "util-linux")):
        if shutil.which(name) is None:
            raise SystemExit(f"{name} is not there: it comes from the Debian package {package}.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("Two cores are needed: one for the apps, one for wrk.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops all processes on the way out
    wrk = Wrk(cores[1], arguments.connections, arguments.seconds)
    url, bare_url = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}/"
    tables = [arguments.only] if arguments.only else TABLES
    say(describe_machine())
    with TemporaryDirectory(prefix="digitlab-benchmark-") as folder, httpx2.Client(base_url=url, timeout=30) as client:
        bench = Bench(Path(folder), cores[0], client, bare_url)
        with bench.serve() as api:
            run(bench, wrk, tables, arguments.rounds)
            say(f"\nResident memory of the API after all this: {resident_megabytes(api.pid):.0f} MB")


if __name__ == "__main__":
    main()
