"""A real browser before real processes. Each page is watched: its console, its requests, what is refused to it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import cos, pi, sin
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from app.database import Database
from app.settings import Settings
from tests.browser import need_browser
from tests.e2e.conftest import PATIENCE_SECONDS, Processes, launcher, open_processes
from tests.launcher import Launcher

__all__ = ["launcher"]

# Names that end in .example are this machine: other sites, and the service by a name that is no secure context.
# Letters are drawn alike whatever the system's fonts are set to.
ARGUMENTS = [
    "--no-sandbox",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    "--font-render-hinting=none",
    "--disable-lcd-text",
]
VIEWS = ("draw", "train", "runs", "run", "compare", "sweeps", "sweep", "models", "data", "states")
PRELOAD = "was preloaded using link preload but not used"
# A run that is over in a blink, and good enough to be champion of this service.
QUICK = {"model": {"hidden_sizes": [64], "activation": "relu", "dropout": 0.0}, "training": {"epochs": 30}}
PATIENCE_MS = 120_000
TRAINED_MS = 1000 * PATIENCE_SECONDS  # for what is shown when a run has ended
expect.set_options(timeout=PATIENCE_MS)  # a busy machine is slow, and nothing here has a deadline of its own


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, which ends with a file's tests.

    Playwright keeps an event loop running in its thread, in which other tests that run one would fail. (The scope
    `package` is the session's here: the folders of tests are no packages.)
    """
    executable = need_browser()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield started
        started.close()


@dataclass
class Watched:
    """What a page did that it should not do, but for the refusals that a test expects."""

    origin: str
    expected: list[tuple[int, str]] = field(default_factory=list)  # status, pattern of the path
    found: list[str] = field(default_factory=list)

    def expect(self, status: int, path: str) -> None:
        self.expected.append((status, path))

    def _is_expected(self, status: int, url: str) -> bool:
        return any(status == each and re.search(path, url) for each, path in self.expected)

    def note_console(self, message: ConsoleMessage) -> None:
        status = re.search(r"status of (\d{3})", message.text)
        if status and self._is_expected(int(status[1]), message.location["url"]):
            return
        if PRELOAD not in message.text:
            self.found.append(f"console: {message.text} ({message.location['url']})")

    def note_request(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "blob:", "data:")):
            self.found.append(f"foreign request: {request.url}")

    def note_response(self, response: Response) -> None:
        if response.status >= 400 and not self._is_expected(response.status, response.url):
            self.found.append(f"{response.status} {response.request.method} {response.url}")

    def follow(self, page: Page) -> None:
        page.on("console", self.note_console)
        page.on("request", self.note_request)
        page.on("response", self.note_response)
        page.on("pageerror", lambda error: self.found.append(f"error: {error}"))


@dataclass(frozen=True)
class Service:
    """Processes with trained models, and what is in their database."""

    processes: Processes
    run_id: str  # of the champion
    other_id: str
    sweep_id: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.processes.port}"

    def address(self, view: str) -> str:
        """Return the address of a view, with something in it where it needs that."""
        fragments = {
            "run": f"runs/{self.run_id}",
            "compare": f"compare?run={self.run_id}&run={self.other_id}",
            "sweep": f"sweeps/{self.sweep_id}",
            "models": f"models?against={self.other_id}",
            "train": f"train?run={self.other_id}",
        }
        return f"{self.url}/#/{fragments.get(view, view)}"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path, launcher: Launcher) -> Iterator[Service]:
    """One service for all tests that only look at it, or add to it."""
    folder = tmp_path_factory.mktemp("service")
    copyfile(migrated_file, folder / "digitlab.db")
    settings = Settings(data_dir=folder)
    database = Database(settings.resolved_database_url)
    with open_processes(settings, database, folder, launcher) as processes:
        processes.start_api()
        processes.start_worker()
        run_id = processes.submit({"name": "first model", "tags": {"unit": "2"}, **QUICK})
        narrow = {**QUICK, "model": {"hidden_sizes": [12], "activation": "tanh"}}
        other_id = processes.submit({"name": "narrow", **narrow})
        parameters = {"model.hidden_sizes": [[8], [16]], "training.optimizer.learning_rate": [0.01, 0.1]}
        base = {"training": {"epochs": 10}}
        answer = processes.client.post("/sweeps", json={"name": "small", "base": base, "parameters": parameters})
        assert answer.status_code == 202, answer.text
        for each in (run_id, other_id):
            assert processes.finish(each)["status"] == "succeeded"
        sweep_id = answer.json()["id"]
        trials = processes.client.get("/runs", params={"sweep_id": sweep_id}).json()["data"]
        assert {processes.finish(trial["id"])["status"] for trial in trials} == {"succeeded"}
        yield Service(processes, run_id, other_id, sweep_id)
    database.close()


@pytest.fixture(autouse=True)
def end_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel what a test has left unfinished: the shared worker would train it while later tests wait for theirs."""
    yield
    if "service" in request.fixturenames:
        client = request.getfixturevalue("service").processes.client
        unfinished = client.get("/runs", params={"status": ["queued", "running", "paused"], "limit": 100})
        for run in unfinished.json()["data"]:
            client.post(f"/runs/{run['id']}/cancel")


@pytest.fixture
def idle_service(tmp_path: Path, migrated_file: Path, launcher: Launcher) -> Iterator[Processes]:
    """Processes of which none is started yet, with an empty database."""
    copyfile(migrated_file, tmp_path / "digitlab.db")
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.resolved_database_url)
    with open_processes(settings, database, tmp_path, launcher) as processes:
        yield processes
    database.close()


@pytest.fixture
def filled_service(service: Service, idle_service: Processes) -> Service:
    """Processes of which none is started yet, with a copy of the shared service's database."""
    shared = str(service.processes.environment["DIGITLAB_DATA_DIR"])
    own = str(idle_service.environment["DIGITLAB_DATA_DIR"])
    with (
        closing(sqlite3.connect(Path(shared, "digitlab.db"))) as source,
        closing(sqlite3.connect(Path(own, "digitlab.db"))) as copy,
    ):
        source.backup(copy)
    return replace(service, processes=idle_service)


WatchedPages = Callable[..., tuple[Page, Watched]]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[WatchedPages]:
    """Opens an address in a browser context of its own; what went wrong there fails the test at its end."""
    contexts: list[BrowserContext] = []
    watched: list[Watched] = []

    def open_one(
        address: str, *expected: tuple[int, str], is_ready: bool = True, **options: Any
    ) -> tuple[Page, Watched]:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        watch = Watched(re.match(r"https?://[^/]+", address)[0], list(expected))  # type: ignore[index]
        watched.append(watch)
        watch.follow(page)
        page.goto(address)
        if is_ready:
            page.wait_for_selector("html[data-ready]")
        return page, watch

    yield open_one
    for context in contexts:
        context.close()
    assert [each for watch in watched for each in watch.found] == []


def go(page: Page, address: str) -> None:
    """Load an address anew: within the page, a click may still reach the view before, on its way out."""
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("html[data-ready]")


def draw(page: Page, points: list[tuple[float, float]], steps: int = 3) -> None:
    """Draw a stroke with the mouse; points are in units of the pad's height, from its left upper corner."""
    box = page.locator(".pad").bounding_box()
    assert box is not None
    left = box["x"] + (box["width"] - box["height"]) / 2
    where = [(left + x * box["height"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*where[0])
    page.mouse.down()
    for x, y in where[1:]:
        page.mouse.move(x, y, steps=steps)
    page.mouse.up()


def oval(number: int = 24) -> list[tuple[float, float]]:
    """Points of an upright oval."""
    turns = [2 * pi * i / number for i in range(number + 1)]
    return [(0.5 + 0.22 * sin(turn), 0.5 - 0.38 * cos(turn)) for turn in turns]


def shown_pixels(page: Page) -> list[int]:
    """Return the 64 pixels that the page shows as what the model sees."""
    pixels: list[int] = page.evaluate("Array.from(document.querySelector('.seen canvas').values)")
    return pixels


def frames(page: Page) -> None:
    """Wait for two frames: what the page has put off until the next one is done then."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def answered(page: Page) -> None:
    """Wait until Draw shows the answer to all that was drawn."""
    frames(page)
    expect(page.locator(".draw-answer[aria-busy=false]")).to_be_visible()
