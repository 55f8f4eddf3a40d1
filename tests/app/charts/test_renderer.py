"""The drawing process: one draws all pictures, is replaced when it dies, ends with the API and never slows it down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.charts.renderer import Renderer, giving_way
from app.errors import Unavailable


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    renderer = Renderer()
    yield renderer
    renderer.close()


@pytest.fixture
def drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a module whose pictures are the child's process ids and nice value, and which fails on request."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fake_drawing.py").write_text(
        "import os, time\n"
        "def draw(data):\n"
        "    if data.get('die'): os._exit(1)\n"
        "    if data.get('raise'): raise ValueError('no such colour')\n"
        "    time.sleep(data.get('seconds', 0))\n"
        "    return f'{os.getpid()} {os.getppid()} {os.nice(0)}'.encode()\n"
    )
    return "fake_drawing"


def child_of(renderer: Renderer, drawing: str) -> int:
    return int(renderer.draw(drawing, {}).split()[0])


def test_one_child_draws_all_pictures_and_gives_way_to_the_api(renderer: Renderer, drawing: str) -> None:
    first = renderer.draw(drawing, {})
    child, parent, niceness = map(int, first.split())
    assert child != parent == os.getpid()
    assert niceness > os.nice(0)
    assert renderer.draw(drawing, {}) == first


@pytest.mark.skipif(sys.platform == "win32", reason="has no sched_yield")
def test_giving_way_to_a_busy_machine_leaves_turns_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    num_yields = 0

    def let_others_have_the_core() -> None:
        nonlocal num_yields
        num_yields += 1
        time.sleep(0.005)

    monkeypatch.setattr("os.sched_yield", let_others_have_the_core)
    with giving_way():
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
    assert 0 < num_yields <= 100, "0.2 s are 40 turns of 5 ms; a turn may have been cut in halves"


@pytest.mark.skipif(sys.platform == "win32", reason="has no sched_yield")
def test_a_signal_that_comes_at_the_end_of_a_picture_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    monkeypatch.setattr("app.charts.renderer.YIELD_SECONDS", 0.00002)
    for length in range(20_000):
        with giving_way():
            sum(range(length % 97))
    assert complaints == []


def test_a_killed_child_is_replaced(renderer: Renderer, drawing: str) -> None:
    before = child_of(renderer, drawing)
    os.kill(before, signal.SIGKILL)
    assert child_of(renderer, drawing) != before


def test_a_picture_that_kills_every_child_is_given_up(renderer: Renderer, drawing: str) -> None:
    with pytest.raises(Unavailable, match="died twice"):
        renderer.draw(drawing, {"die": True})
    assert child_of(renderer, drawing)


def test_an_error_in_the_child_says_where_it_was(renderer: Renderer, drawing: str) -> None:
    before = child_of(renderer, drawing)
    with pytest.raises(RuntimeError, match="ValueError: no such colour"):
        renderer.draw(drawing, {"raise": True})
    assert child_of(renderer, drawing) == before


def test_a_picture_that_takes_too_long_ends_the_child(drawing: str) -> None:
    renderer = Renderer(timeout_seconds=2)
    before = child_of(renderer, drawing)
    with pytest.raises(Unavailable) as raised:
        renderer.draw(drawing, {"seconds": 60})
    assert raised.value.slug == "picture-timeout"
    assert child_of(renderer, drawing) != before
    renderer.close()


def test_a_closed_renderer_draws_no_more(renderer: Renderer, drawing: str) -> None:
    child = child_of(renderer, drawing)
    renderer.close()
    with pytest.raises(Unavailable):
        renderer.draw(drawing, {})
    assert is_gone(child)


API = """
import os, sys, time
from app.charts.renderer import Renderer, giving_way
import app.main
print("matplotlib" in sys.modules, flush=True)
renderer = Renderer()
print(renderer.draw("fake_drawing", {}).split()[0].decode(), flush=True)
if sys.argv[1] == "busy":
    renderer.draw("fake_drawing", {"seconds": 60})
if sys.argv[1] == "idle":
    time.sleep(60)
"""


def start_api(manner: str, folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", API, manner],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{Path.cwd()}:{folder}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "False\n"
    return process, int(process.stdout.readline())


def is_gone(process_id: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(process_id, 0)
        except ProcessLookupError:
            return True
        if (status := Path(f"/proc/{process_id}/stat")).exists() and status.read_text().rsplit(")")[-1].split()[
            0
        ] == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.usefixtures("drawing")
def test_the_api_process_loads_no_matplotlib_and_its_child_ends_with_it(tmp_path: Path) -> None:
    process, child = start_api("end", tmp_path)
    assert process.communicate(timeout=60)[1] == ""
    assert is_gone(child)


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("manner", ["idle", "busy"])
def test_the_child_does_not_outlive_a_killed_api(manner: str, tmp_path: Path) -> None:
    process, child = start_api(manner, tmp_path)
    process.kill()
    process.communicate(timeout=60)
    assert is_gone(child)


@pytest.mark.usefixtures("drawing")
def test_ctrl_c_prints_no_traceback_of_the_child(tmp_path: Path) -> None:
    process, child = start_api("idle", tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60)[1].count("Traceback") == 1  # the script's own traceback
    assert is_gone(child)
