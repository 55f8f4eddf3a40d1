"""`digitlab api --processes N`: all processes share one port, one champion and one set of metrics."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import AddModel
from tests.e2e.conftest import Processes, children_of, has_ended, wait_for
from tests.graphs import graph_answering

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

AN_IMAGE = {"instances": [[[0] * 8] * 8]}
NUM_PROCESSES = 3


@pytest.fixture
def several(idle_processes: Processes, add_model: AddModel) -> Processes:
    add_model(0.5, graph_answering(1))
    running = idle_processes
    running.client.headers["Connection"] = "close"  # each request gets a new connection, to any process
    running.api = running.start("app.cli", "api", "--port", running.port, "--processes", str(NUM_PROCESSES))
    wait_for(lambda: running.log.count("Application startup complete") >= NUM_PROCESSES)
    return running


def servers(running: Processes) -> list[int]:
    """Return the process ids of the API processes that serve requests."""
    assert running.api is not None
    return [pid for pid in children_of(running.api.pid) if b"spawn_main" in command_line(pid)]


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def ask(running: Processes) -> dict[str, Any]:
    response = running.client.post("/predict", json=AN_IMAGE)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def total(running: Processes, name: str) -> float:
    text = running.client.get("/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name)


def test_all_processes_follow_the_champion_and_any_tells_the_metrics_of_all(
    several: Processes, add_model: AddModel
) -> None:
    assert len(servers(several)) == NUM_PROCESSES
    with ThreadPoolExecutor(8) as pool:
        assert {each["predictions"][0]["digit"] for each in pool.map(lambda _: ask(several), range(200))} == {1}
        assert {total(several, "digitlab_predictions_total") for _ in range(20)} == {200}
        better = add_model(0.9, graph_answering(2))
        wait_for(lambda: {ask(several)["model"]["run_id"] for _ in range(40)} == {better})
        assert {each["predictions"][0]["digit"] for each in pool.map(lambda _: ask(several), range(200))} == {2}
    assert several.log.count(f"Champion is now run {better}") == NUM_PROCESSES


def test_a_process_that_dies_is_replaced_and_its_numbers_stay(several: Processes) -> None:
    for _ in range(30):
        ask(several)
    victim = servers(several)[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(servers(several)) == NUM_PROCESSES and victim not in servers(several))
    wait_for(lambda: several.log.count("Application startup complete") == NUM_PROCESSES + 1)
    assert total(several, "digitlab_predictions_total") == 30
    for _ in range(30):
        ask(several)


def test_all_end_together_cleanly_and_when_their_parent_is_killed(several: Processes) -> None:
    assert several.api is not None
    children = servers(several)
    folder = re.search(rb"PROMETHEUS_MULTIPROC_DIR=([^\0]+)", Path(f"/proc/{children[0]}/environ").read_bytes())
    assert folder is not None
    several.api.terminate()
    several.api.wait(60)
    assert all(has_ended(pid) for pid in children)
    assert not Path(folder[1].decode()).exists()

    running = several
    running.api = running.start("app.cli", "api", "--port", running.port, "--processes", "2")
    wait_for(lambda: running.log.count("Application startup complete") == NUM_PROCESSES + 2)
    children = servers(running)
    running.api.kill()
    running.api.wait()
    wait_for(lambda: all(has_ended(pid) for pid in children))
