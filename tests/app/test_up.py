"""When `digitlab up` starts a part again, and when it gives up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from app.cli.up import MAX_FAILED_STARTS, NeverReady, Part

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
DIES = [sys.executable, "-c", "import sys; sys.exit('no such device')"]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.up.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("app.cli.up.LONGEST_PAUSE_SECONDS", 0.05)


@pytest.fixture
def part() -> Iterator[Part]:
    part = Part("worker", SLEEPS, lambda _: True)
    yield part
    part.end(0)


def watch_until_ended(part: Part) -> int:
    while (exit_code := part.look()) is None:
        time.sleep(0.002)
    return exit_code


def kill_when_ready(part: Part) -> None:
    while part.process is None or part.ready_at is None:
        part.look()
        time.sleep(0.002)
    part.process.send_signal(signal.SIGKILL)
    assert watch_until_ended(part) == -signal.SIGKILL


def test_what_has_been_ready_is_always_started_again_after_growing_pauses(part: Part) -> None:
    pauses = []
    for _ in range(8):
        kill_when_ready(part)
        pauses.append(part.pause_seconds)
    assert pauses == [0.01, 0.02, 0.04, *[0.05] * 5]


def test_pauses_begin_anew_after_a_healthy_while(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        kill_when_ready(part)
    monkeypatch.setattr("app.cli.up.HEALTHY_SECONDS", 0.0)
    kill_when_ready(part)
    assert part.pause_seconds == 0.01


def test_what_never_was_ready_ends_it_with_its_last_words() -> None:
    part = Part("worker", DIES, lambda _: False)
    for _ in range(MAX_FAILED_STARTS - 1):
        assert watch_until_ended(part) == 1
    with pytest.raises(NeverReady, match=r"5 times without being ready:(.|\n)*no such device"):
        watch_until_ended(part)


def test_what_was_ready_once_may_fail_to_start_for_long(part: Part) -> None:
    kill_when_ready(part)
    part.command, part.is_ready = DIES, lambda _: False
    for _ in range(2 * MAX_FAILED_STARTS):
        assert watch_until_ended(part) == 1


def test_what_is_killed_before_it_is_ready_is_started_again(part: Part) -> None:
    part.is_ready = lambda _: False
    for _ in range(2 * MAX_FAILED_STARTS):
        while part.process is None:
            part.look()
            time.sleep(0.002)
        part.process.send_signal(signal.SIGKILL)
        assert watch_until_ended(part) == -signal.SIGKILL
