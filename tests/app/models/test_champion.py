"""The champion: election, pinning, rollback, skipping a damaged model; and which models predict."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import update

from app.api_keys import required_scope
from app.database import Database
from app.errors import AppError
from app.http.dependencies import _media_type
from app.http.origins import _is_local, _name
from app.http.protocol import _is_host
from app.http.threads import Lane
from app.main import create_app
from app.models import promotion
from app.predictions.champion_look import ChampionLook
from app.predictions.endpoints import _parse_options
from app.predictions.predictor import BYTES_PER_FILE_BYTE, LoadedModel, Predictor
from app.settings import Settings
from app.tables import SavedModel
from tests.conftest import AddModel, AddRun, AssertProblem, TestClient
from tests.graphs import graph_answering

A_DIGIT = {"instances": [[[0] * 8] * 8]}


def damage(database: Database, run_id: str) -> None:
    """Flip one bit of a saved model in the database."""
    with database.writing() as session:
        graph = bytearray(session.get_one(SavedModel, run_id).onnx)
        graph[len(graph) // 2] ^= 1
        session.execute(update(SavedModel).where(SavedModel.run_id == run_id).values(onnx=bytes(graph)))


def answering(client: TestClient) -> str | None:
    """Return the id of the run whose model predicts; None if there is no model."""
    response = client.post("/predict", json=A_DIGIT)
    return response.json()["model"]["run_id"] if response.is_success else None


def wait_until_answering(client: TestClient, run_id: str) -> None:
    deadline = time.monotonic() + 60
    while answering(client) != run_id:
        assert time.monotonic() < deadline, "another model answers"
        time.sleep(0.02)


def test_a_pinned_model_answers_until_it_is_unpinned(client: TestClient, add_model: AddModel) -> None:
    worse, better = add_model(0.9, graph_answering(1)), add_model(0.95, graph_answering(2))
    wait_until_answering(client, better)
    pinned = client.put("/models/champion", json={"run_id": worse})
    assert pinned.status_code == 200
    assert (pinned.json()["model"]["run_id"], pinned.json()["reason"]) == (worse, "pinned")
    assert pinned.json()["automatic"]["run_id"] == better
    best = add_model(0.99, graph_answering(3))  # a better model does not replace the pinned one, but is named
    assert client.get("/models/champion").json()["automatic"]["run_id"] == best
    wait_until_answering(client, worse)
    unpinned = client.delete("/models/champion").json()
    assert (unpinned["model"]["run_id"], unpinned["reason"], unpinned["automatic"]) == (best, "automatic", None)
    wait_until_answering(client, best)
    assert [(step["run_id"], step["reason"]) for step in unpinned["history"]] == [
        (best, "automatic"),
        (worse, "pinned"),
        (better, "automatic"),
        (worse, "automatic"),
    ]


def test_pinning_and_unpinning_twice_is_harmless(client: TestClient, add_model: AddModel) -> None:
    worse, better = add_model(0.9), add_model(0.95)
    for _ in range(2):
        assert len(client.put("/models/champion", json={"run_id": worse}).json()["history"]) == 3
    for _ in range(2):
        assert len(client.delete("/models/champion").json()["history"]) == 4
    assert client.get("/models/champion").json()["model"]["run_id"] == better


def test_pinning_the_automatic_champion_keeps_it_against_better_ones(client: TestClient, add_model: AddModel) -> None:
    first = add_model(0.9)
    client.put("/models/champion", json={"run_id": first})
    add_model(0.95)
    assert client.get("/models/champion").json()["model"]["run_id"] == first


def test_a_rollback_pins_the_one_before_and_again_goes_forth(client: TestClient, add_model: AddModel) -> None:
    first, second, third = add_model(0.9), add_model(0.95), add_model(0.99)
    assert client.post("/models/champion/rollback").json()["model"]["run_id"] == second
    assert client.post("/models/champion/rollback").json()["model"]["run_id"] == third
    client.delete("/models/champion")
    assert client.delete(f"/runs/{second}").status_code == 204
    rolled_back = client.post("/models/champion/rollback").json()
    assert (rolled_back["model"]["run_id"], rolled_back["reason"]) == (first, "pinned")


def test_the_history_tells_what_a_champion_was_also_when_its_run_is_deleted(
    client: TestClient, add_model: AddModel
) -> None:
    first, second = add_model(0.9, num_parameters=100), add_model(0.95, num_parameters=200)
    for run_id, name in ((first, "one"), (second, "two")):
        assert client.patch(f"/runs/{run_id}", json={"name": name}).status_code == 200
    client.put("/models/champion", json={"run_id": first})
    client.patch(f"/runs/{first}", json={"name": "renamed"})
    client.delete("/models/champion")
    told = [
        {name: step[name] for name in ("run_id", "name", "val_accuracy", "num_parameters", "is_deleted")}
        for step in client.get("/models/champion").json()["history"]
    ]
    of_first = {"run_id": first, "name": "renamed", "val_accuracy": 0.9, "num_parameters": 100, "is_deleted": False}
    of_second = {"run_id": second, "name": "two", "val_accuracy": 0.95, "num_parameters": 200, "is_deleted": False}
    assert told == [of_second, of_first, of_second, of_first]
    assert client.delete(f"/runs/{first}").status_code == 204
    history = client.get("/models/champion").json()["history"]
    # The run had no name when it was elected, and another one when it was pinned.
    assert [(step["name"], step["is_deleted"]) for step in history] == [
        ("two", False), ("one", True), ("two", False), ("", True),
    ]  # fmt: skip
    assert [step["val_accuracy"] for step in history] == [0.95, 0.9, 0.95, 0.9]


def test_a_model_shows_its_configuration(client: TestClient, add_model: AddModel) -> None:
    run_id = add_model()
    (model,) = client.get("/models").json()["data"]
    assert model["config"] == client.get(f"/runs/{run_id}").json()["config"]


def test_a_promotion_by_hand_is_an_event(client: TestClient, add_model: AddModel) -> None:
    worse, better = add_model(0.9), add_model(0.95)
    client.put("/models/champion", json={"run_id": worse})
    newest = client.get("/events").json()["data"][-1]
    assert (newest["type"], newest["run_id"]) == ("promoted", worse)
    assert newest["data"] == {
        "reason": "pinned",
        "val_accuracy": 0.9,
        "shifted_accuracy": None,
        "previous_run_id": better,
    }


def test_a_model_that_is_pinned_cannot_be_deleted_at_the_same_moment(
    client: TestClient, database: Database, add_model: AddModel
) -> None:
    add_model(0.95)
    worse = add_model(0.9)
    with ThreadPoolExecutor(1) as pool:
        with database.writing() as session:
            promotion.pin(session, session.get_one(SavedModel, worse))
            session.flush()
            deleting = pool.submit(client.delete, f"/runs/{worse}")
            time.sleep(0.3)
            assert not deleting.done()  # the deletion waits for the pin's transaction
        assert deleting.result().status_code == 409
    assert client.get("/models/champion").json()["model"]["run_id"] == worse


def test_what_cannot_be_champion_is_refused(
    client: TestClient, add_model: AddModel, add_run: AddRun, assert_problem: AssertProblem, database: Database
) -> None:
    champion = "/models/champion"
    assert_problem(client.delete(champion), 404, "no-saved-model")
    assert_problem(client.post(f"{champion}/rollback"), 404, "no-saved-model")
    assert_problem(client.put(champion, json={"run_id": "nobody"}), 404, "run-not-found")
    assert_problem(client.put(champion, json={"run_id": add_run()}), 404, "no-saved-model")
    assert_problem(client.put(champion, json={}), 422, "invalid-input")
    assert_problem(client.put(champion, content="run_id=1"), 415, "unsupported-media-type")
    only = add_model(0.9)
    assert_problem(client.post(f"{champion}/rollback"), 409, "no-predecessor")
    damaged = add_model(0.8)
    damage(database, damaged)
    assert_problem(client.put(champion, json={"run_id": damaged}), 409, "damaged-data")
    assert client.get(champion).json()["model"]["run_id"] == only


def test_the_only_pinned_model_off_the_canonical_split_stays(
    client: TestClient, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    other = add_model(0.9, on_canonical_split=False)
    assert client.get("/models/champion").status_code == 404
    assert client.put("/models/champion", json={"run_id": other}).json()["automatic"] is None
    assert_problem(client.delete("/models/champion"), 409, "no-saved-model")
    wait_until_answering(client, other)
    best = add_model(0.8)
    assert client.delete("/models/champion").json()["model"]["run_id"] == best


def test_a_damaged_champion_is_passed_over_and_named(
    settings: Any, database: Database, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    from app.main import create_app

    third, second, first = (
        add_model(0.8, graph_answering(3)),
        add_model(0.9, graph_answering(2)),
        add_model(0.95, graph_answering(1)),
    )
    damage(database, first)
    with TestClient(create_app(settings)) as client:
        assert answering(client) == second
        ready = client.get("/health/ready")
        assert ready.status_code == 200
        assert ready.json()["status"] == "degraded"
        assert ready.json()["champion_run_id"] == second
        assert any(first in cause and second in cause for cause in ready.json()["causes"])
        assert_problem(client.post(f"/predict?run_id={first}", json=A_DIGIT), 500, "damaged-data")
        assert client.get("/models/champion").json()["model"]["run_id"] == first  # it is still the elected one
        between = add_model(0.93, graph_answering(4))  # better than the model that predicts, worse than the damaged one
        wait_until_answering(client, between)
        client.put("/models/champion", json={"run_id": third})
        wait_until_answering(client, third)
        assert client.get("/health/ready").json()["causes"][1:] == []  # the only cause is the missing worker


def test_a_graph_that_cannot_be_loaded_is_passed_over(settings: Any, add_model: AddModel) -> None:
    from app.main import create_app

    good = add_model(0.9, graph_answering(5))
    bad = add_model(0.95, graph=b"this is no graph")
    with TestClient(create_app(settings)) as client:
        assert answering(client) == good
        assert any(bad in cause for cause in client.get("/health/ready").json()["causes"])


def test_without_any_usable_model_readiness_says_why(
    settings: Any, database: Database, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    from app.main import create_app

    only = add_model(0.9)
    damage(database, only)
    with TestClient(create_app(settings)) as client:
        assert_problem(client.post("/predict", json=A_DIGIT), 503, "no-saved-model")
        assert only in assert_problem(client.get("/health/ready"), 503, "not-ready")["detail"]


def test_a_damaged_model_is_tried_again_after_a_while(
    database: Database, add_model: AddModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, better = add_model(0.9), add_model(0.95)
    damage(database, better)
    monkeypatch.setattr("app.predictions.predictor.UNUSABLE_RETRY_SECONDS", 0.05)
    predictor = Predictor(database, poll_seconds=0.01, max_loaded_bytes=2**20)
    predictor.start()
    try:
        assert predictor.champion.run_id == good
        damage(database, better)  # flipping the same bit again repairs the model
        deadline = time.monotonic() + 60
        while predictor.champion.run_id != better:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert predictor.problems == []
    finally:
        predictor.stop()


def test_every_answer_is_one_models_while_champions_change(client: TestClient, add_model: AddModel) -> None:
    first = add_model(0.5, graph_answering(0))
    wait_until_answering(client, first)
    digits = {first: 0}
    stopping = threading.Event()

    def promote() -> None:
        for number in range(1, 60):
            digit = number % 10
            digits[add_model(0.5 + number / 1000, graph_answering(digit))] = digit
            time.sleep(0.05)
        stopping.set()

    promoting = threading.Thread(target=promote)
    promoting.start()
    seen = set()
    while not stopping.is_set():
        answer = client.post("/predict", json={"instances": [[[0] * 8] * 8] * 50}).json()
        (digit,) = {prediction["digit"] for prediction in answer["predictions"]}
        seen.add((answer["model"]["run_id"], digit))
    promoting.join()
    assert len(seen) > 3
    assert all(digits[run_id] == digit for run_id, digit in seen)


def test_memory_stays_flat_over_a_thousand_swaps(database: Database, add_model: AddModel) -> None:
    graphs = [add_model(0.5, graph_answering(digit)) for digit in range(10)]
    predictor = Predictor(database, poll_seconds=60, max_loaded_bytes=400_000)  # a model takes 114,000
    resident = []
    for swap in range(1000):
        with database.writing() as session:
            promotion.pin(session, session.get_one(SavedModel, graphs[swap % 10]))
        predictor._refresh()
        assert predictor.champion.run_id == graphs[swap % 10]
        predictor.load(graphs[(swap + 5) % 10])
        if swap % 100 == 99:
            gc.collect()
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert len(predictor._others) == 3
    assert resident[-1] - resident[1] < 8 * 2**20, resident


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/predict", A_DIGIT),
        ("GET", "/health/ready", None),
        ("GET", "/v2/health/ready", None),
        ("GET", "/v2/models/champion", None),
        ("GET", "/v2/models/champion/ready", None),
        ("GET", "/models/champion", None),
    ],
)
def test_the_first_model_answers_as_soon_as_it_is_saved(
    settings: Settings,
    database: Database,  # noqa: ARG001
    add_model: AddModel,
    method: str,
    path: str,
    body: object,
) -> None:
    with TestClient(create_app(settings.model_copy(update={"champion_poll_seconds": 60}))) as client:
        assert client.request(method, path, json=body).status_code in (404, 503)
        add_model()
        assert client.request(method, path, json=body).status_code == 200


def test_one_look_serves_all_that_came_before_it_began() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    looks: list[float] = []

    class Empty:
        has_champion = False
        find_first_champion = None

    class Slow:
        async def run(self, _: object) -> None:
            looks.append(time.monotonic())
            began.set()
            await may_end.wait()

    async def crowd() -> None:
        look = ChampionLook(cast(Predictor, Empty()), cast(Lane, Slow()))
        early = [asyncio.create_task(look.wait()) for _ in range(30)]
        await began.wait()
        assert len(looks) == 1
        late = [asyncio.create_task(look.wait()) for _ in range(30)]
        late[0].cancel()  # a client that disconnects cancels no other request
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(*early, *late[1:])

    asyncio.run(crowd())
    assert len(looks) == 2


def test_models_are_kept_by_their_bytes(database: Database, add_model: AddModel) -> None:
    ids = [add_model(0.5, graph_answering(digit)) for digit in range(4)]
    with database.reading() as session:
        size = LoadedModel.load(session.get_one(SavedModel, ids[0])).num_bytes
    assert size > BYTES_PER_FILE_BYTE * len(graph_answering(0))
    predictor = Predictor(database, poll_seconds=60, max_loaded_bytes=2 * size)
    for run_id in (*ids[:2], ids[0], ids[2]):
        assert predictor.load(run_id).run_id == run_id
    assert [predictor.cached(run_id) is not None for run_id in ids] == [True, False, True, False]
    too_small = Predictor(database, poll_seconds=60, max_loaded_bytes=size - 1)
    assert too_small.load(ids[0]).run_id == ids[0]
    assert too_small.cached(ids[0]) is None


@pytest.mark.parametrize(
    "cached", [_media_type, _name, _is_local, _is_host, _parse_options, partial(required_scope, "GET")]
)
def test_what_clients_send_is_not_kept_if_it_is_long(cached: Any) -> None:
    entries = getattr(cached, "func", cached).entries
    as_text = isinstance(cached, partial)
    for length in (30, 30_000):
        before = len(entries)
        text = "run_id=" + "a" * length
        with suppress(AppError):
            cached(f"/{text}" if as_text else text.encode())
        assert len(entries) - before == (length == 30)
