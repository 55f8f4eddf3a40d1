"""`digitlab up`: when it restarts one of its processes, and when it gives up."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from app.cli.up import MAX_FAILED_STARTS, NeverReady, RestartCounter, SupervisedProcess, as_json, show_page
from app.database import Database
from app.tables import Restart

ANNOUNCES = "import os, time; os.write(2, b'\\0ready\\n'); time.sleep(600)"
SLEEPS = [sys.executable, "-c", ANNOUNCES]
DIES = [sys.executable, "-c", "import sys; sys.exit('no such device')"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.up.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("app.cli.up.LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def part() -> Iterator[SupervisedProcess]:
    part = SupervisedProcess("worker", SLEEPS)
    yield part
    part.end(0)


def watch_until_ended(part: SupervisedProcess) -> int:
    while (exit_code := part.look()) is None:
        time.sleep(0.002)
    return exit_code


def kill_when_ready(part: SupervisedProcess) -> None:
    while part.process is None or part.ready_at is None:
        part.look()
        time.sleep(0.002)
    part.process.send_signal(signal.SIGKILL)
    assert watch_until_ended(part) == -signal.SIGKILL


def test_what_has_been_ready_is_always_started_again_after_growing_pauses(part: SupervisedProcess) -> None:
    pauses = []
    for _ in range(8):
        kill_when_ready(part)
        pauses.append(part.pause_seconds)
    assert pauses == [0.01, 0.02, 0.04, *[0.05] * 5]


def test_pauses_begin_anew_after_a_healthy_while(part: SupervisedProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        kill_when_ready(part)
    monkeypatch.setattr("app.cli.up.HEALTHY_SECONDS", 0.0)
    kill_when_ready(part)
    assert part.pause_seconds == 0.01


def test_what_never_was_ready_ends_it_with_its_last_words() -> None:
    part = SupervisedProcess("worker", DIES)
    for _ in range(MAX_FAILED_STARTS - 1):
        assert watch_until_ended(part) == 1
    with pytest.raises(NeverReady, match=r"5 times without being ready:(.|\n)*no such device"):
        watch_until_ended(part)


def test_what_was_ready_once_may_fail_to_start_for_long(part: SupervisedProcess) -> None:
    kill_when_ready(part)
    part.command = DIES
    for _ in range(2 * MAX_FAILED_STARTS):
        assert watch_until_ended(part) == 1


def test_what_is_killed_before_it_is_ready_is_started_again(part: SupervisedProcess) -> None:
    part.command = [sys.executable, "-c", "import time; time.sleep(600)"]
    for _ in range(2 * MAX_FAILED_STARTS):
        while part.process is None:
            part.look()
            time.sleep(0.002)
        part.process.send_signal(signal.SIGKILL)
        assert watch_until_ended(part) == -signal.SIGKILL


def test_only_what_came_through_its_own_pipe_makes_a_part_ready() -> None:
    part = SupervisedProcess("API", [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"])
    try:
        while not part.last_words:
            part.look()
            time.sleep(0.002)
        part.look()
        assert (part.ready_at, part.announcement) == (None, None)
        assert part.process is not None
        part.announced = part.process, "http://127.0.0.1:1"
        part.look()
        assert part.ready_at is not None
        part.announced = object(), "of an earlier process"  # type: ignore[assignment]
        assert part.announcement is None
    finally:
        part.end(0)


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_locked_database_does_not_keep_parts_from_starting(database: Database) -> None:
    counter = RestartCounter(database)
    with database.writing():
        counter.count("API", 1)
        counter.count("API", -9)
        assert counter._thread.is_alive()
    counter.close()
    with database.reading() as session:
        row = session.get_one(Restart, "API")
        assert (row.count, row.exit_code) == (2, -9)
    assert threading.current_thread() is not counter._thread


@pytest.mark.parametrize(
    "line", [b"Segmentation fault\n", b"\x1b[2J\xff\r\n", b"[1]\n", b"\n", b'"a"\n', b"NaN", b"{\n"]
)
def test_each_line_of_a_part_becomes_json(line: bytes) -> None:
    record = json.loads(as_json(line, "API"))
    assert record["process"] == "api"
    assert set(record) == {"level", "logger", "message", "process", "time"}
    assert "\x1b" not in record["message"]


def test_a_json_line_of_a_part_stays_as_it_is() -> None:
    line = b'{"message":"a","process":"trainer"}\n'
    assert as_json(line, "worker") == line


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
    ],
)
def test_the_page_is_opened_where_a_browser_reaches_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, opened: str
) -> None:
    asked: list[str] = []

    def open_first(page: str) -> bool:
        asked.append(page)
        return len(asked) == 1

    monkeypatch.setattr("webbrowser.open", open_first)
    show_page(url)
    assert (asked, capsys.readouterr().err) == ([opened], "")
    show_page(url)
    assert capsys.readouterr().err == f"There is no browser to open {opened} with.\n"
