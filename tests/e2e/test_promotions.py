"""Champions that change under load: no request fails, no response mixes two models; and a champion that is damaged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import update

from app.database import Database
from app.tables import SavedModel
from tests.conftest import AddModel
from tests.e2e.conftest import Processes, wait_for
from tests.graphs import graph_answering

NUM_PROMOTIONS = 200
NUM_CONNECTIONS = 16
SECONDS_BETWEEN = 0.05
SECONDS_BETWEEN_REQUESTS = 0.02  # per connection; without a pause clients delay each other and this test
IMAGES = {"instances": [[[0] * 8] * 8] * 20}


def test_two_hundred_promotions_under_load_lose_and_mix_nothing(processes: Processes, add_model: AddModel) -> None:
    first = add_model(0.5, graph_answering(0))
    wait_for(lambda: processes.client.post("/predict", json=IMAGES).is_success)
    digits = {first: 0}
    graphs = [graph_answering(digit) for digit in range(10)]
    done = threading.Event()

    def load(_: int) -> Counter[tuple[str, int]]:
        answered: Counter[tuple[str, int]] = Counter()
        with httpx2.Client(base_url=str(processes.client.base_url), timeout=60) as client:
            while not done.is_set():
                response = client.post("/predict", json=IMAGES)
                assert response.status_code == 200, response.text
                answer = response.json()
                run_id = answer["model"]["run_id"]
                (digit,) = {each["digit"] for each in answer["predictions"]}
                answered[run_id, digit] += 1
                time.sleep(SECONDS_BETWEEN_REQUESTS)
        return answered

    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        loads = [pool.submit(load, number) for number in range(NUM_CONNECTIONS)]
        try:
            for number in range(1, NUM_PROMOTIONS + 1):
                digit = number % 10
                digits[add_model(0.5 + number / 1000, graphs[digit])] = digit
                time.sleep(SECONDS_BETWEEN)
            newest = list(digits)[-1]
            wait_for(lambda: processes.client.post("/predict", json=IMAGES).json()["model"]["run_id"] == newest)
        finally:
            done.set()
        answered = sum((each.result() for each in loads), Counter[tuple[str, int]]())
    assert all(digits[run_id] == digit for run_id, digit in answered)
    print(f"{answered.total():,} requests, answered by {len(answered)} champions of {len(digits)}")
    assert len(answered) >= NUM_PROMOTIONS / 10
    assert len(processes.client.get("/models/champion").json()["history"]) == 100


def test_a_flipped_bit_in_the_champions_file_leaves_the_next_best_answering(
    idle_processes: Processes, database: Database, add_model: AddModel
) -> None:
    next_best, champion = add_model(0.9, graph_answering(4)), add_model(0.95, graph_answering(5))
    idle_processes.start_api()
    client = idle_processes.client
    assert client.post("/predict", json=IMAGES).json()["model"]["run_id"] == champion
    with database.writing() as session:
        graph = bytearray(session.get_one(SavedModel, champion).onnx)
        graph[100] ^= 4
        session.execute(update(SavedModel).where(SavedModel.run_id == champion).values(onnx=bytes(graph)))
    # The model in memory was intact when it was loaded, and still predicts. A process that starts now cannot load it.
    assert client.post("/predict", json=IMAGES).json()["predictions"][0]["digit"] == 5
    idle_processes.restart_api()
    answer = client.post("/predict", json=IMAGES).json()
    assert (answer["model"]["run_id"], answer["predictions"][0]["digit"]) == (next_best, 4)
    ready = client.get("/health/ready")
    assert ready.status_code == 200
    assert (ready.json()["status"], ready.json()["champion_run_id"]) == ("degraded", next_best)
    assert any(champion in cause and next_best in cause for cause in ready.json()["causes"])
    assert f"The saved model of run {champion} does not match its sha256" in idle_processes.log
    assert client.get("/models/champion").json()["model"]["run_id"] == champion


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_deleted_champion_answers_no_longer(processes: Processes, add_model: AddModel) -> None:
    next_best, champion = add_model(0.9, graph_answering(4)), add_model(0.95, graph_answering(5))
    asked = "/predict"
    wait_for(lambda: processes.client.post(asked, json=IMAGES).json().get("model", {}).get("run_id") == champion)
    assert processes.client.delete(f"/runs/{champion}").status_code == 204
    wait_for(lambda: processes.client.post(asked, json=IMAGES).json()["model"]["run_id"] == next_best)
    assert processes.client.post(f"/predict?run_id={champion}", json=IMAGES).status_code == 404
