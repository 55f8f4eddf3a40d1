"""Many heavy requests at once: other requests are still served, and waiting requests hold no thread or connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from app.database import Database
from app.errors import Unavailable
from app.http.turns import Queue, Turns
from app.main import create_app
from app.settings import Settings
from tests.conftest import AddModel, AddRun, AssertProblem, TestClient

PATIENCE_SECONDS = 120
IMAGE = [[0] * 8] * 8


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def app(settings: Settings, database: Database, add_model: AddModel) -> FastAPI:  # noqa: ARG001
    add_model()
    return create_app(settings.model_copy(update={"max_waiting_pictures": 2, "max_waiting_reads": 2}))


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as crowd:
        yield crowd


def test_pictures_beyond_the_queue_are_refused_and_those_in_it_have_read_nothing(
    app: FastAPI,
    crowd: ThreadPoolExecutor,
    add_run: AddRun,
    monkeypatch: pytest.MonkeyPatch,
    assert_problem: AssertProblem,
) -> None:
    path = f"/runs/{add_run()}/curves.png"
    num_read = 0
    may_go_on = threading.Event()

    def curves(*_: object) -> list[Any]:
        nonlocal num_read
        num_read += 1
        return []

    def draw(*_: object) -> bytes:
        may_go_on.wait(PATIENCE_SECONDS)
        return b"a picture"

    monkeypatch.setattr("app.results.service.curves", curves)
    with TestClient(app) as client:
        monkeypatch.setattr(app.state.renderer, "draw", draw)
        answers = [crowd.submit(client.get, path)]
        wait_until(lambda: num_read == 1)
        answers += [crowd.submit(client.get, path) for _ in range(2)]
        wait_until(lambda: app.state.picture_turns.num_waiting == 2)
        refused = client.get(path)
        assert num_read == 1
        may_go_on.set()
        assert [answer.result().content for answer in answers] == [b"a picture"] * 3
        assert client.get(path).status_code == 200
    assert "DIGITLAB_MAX_WAITING_PICTURES=2" in assert_problem(refused, 503, "too-many-pictures")["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert num_read == 4


@pytest.mark.parametrize(
    "path",
    ["/runs/{}/metrics", "/runs/{}/metrics?format=csv", "/runs/{}/summary", "/events", "/runs/{}/events"],
)
def test_large_answers_wait_without_a_thread(
    app: FastAPI, crowd: ThreadPoolExecutor, add_run: AddRun, path: str, assert_problem: AssertProblem
) -> None:
    path = path.format(add_run())
    with TestClient(app) as client:
        assert client.portal is not None
        with ExitStack() as others:
            for _ in range(2):
                others.enter_context(client.portal.wrap_async_context_manager(app.state.read_turns.take(_nothing)))
            answers = [crowd.submit(client.get, path) for _ in range(2)]
            wait_until(lambda: app.state.read_turns.num_waiting == 2)
            assert client.portal.call(_num_busy_threads) == 0
            refused = client.get(path)
        assert [answer.result().status_code for answer in answers] == [200, 200]
    assert "DIGITLAB_MAX_WAITING_READS=2" in assert_problem(refused, 503, "too-many-reads")["detail"]


def test_readiness_and_predictions_need_no_thread_or_connection_of_others(
    app: FastAPI, crowd: ThreadPoolExecutor, add_model: AddModel
) -> None:
    other = add_model(0.1)
    may_go_on, is_busy = threading.Event(), threading.Event()

    @app.get("/slow")
    def be_slow() -> None:
        is_busy.set()
        may_go_on.wait(PATIENCE_SECONDS)

    tensor = {"name": "pixels", "datatype": "FP32", "shape": [2000, 64], "data": [0] * 128_000}
    with TestClient(app) as client, ExitStack() as sessions:
        assert client.portal is not None
        client.portal.call(_leave_one_thread)
        for _ in range(15):  # every connection of the pool
            sessions.enter_context(app.state.database.reading()).connection()
        slow = crowd.submit(client.get, "/slow")
        assert is_busy.wait(PATIENCE_SECONDS)
        asked = [
            partial(client.get, "/health/ready"),
            partial(client.get, "/v2/health/ready"),
            partial(client.post, "/predict", json={"instances": [IMAGE]}),
            partial(client.post, "/predict", json={"instances": [IMAGE] * 1000}),
            partial(client.post, f"/predict?run_id={other}", json={"instances": [IMAGE]}),
            partial(client.post, "/v2/models/champion/infer", json={"inputs": [tensor]}),
        ]
        answers = [crowd.submit(ask) for ask in asked]
        try:
            assert [answer.result(PATIENCE_SECONDS / 2).status_code for answer in answers] == [200] * len(asked)
        finally:
            may_go_on.set()
        assert slow.result().status_code == 200


async def _nothing() -> Any:
    await asyncio.Event().wait()


async def _num_busy_threads() -> int:
    return int(to_thread.current_default_thread_limiter().borrowed_tokens)


async def _leave_one_thread() -> None:
    to_thread.current_default_thread_limiter().total_tokens = 1


def test_turns_are_taken_in_order_and_handed_on_by_those_that_leave() -> None:
    log: list[str] = []

    async def take(turns: Turns, name: str, leaves: asyncio.Event, ends: asyncio.Event) -> None:
        async def receive() -> dict[str, str]:
            await leaves.wait()
            return {"type": "http.disconnect"}

        try:
            async with turns.take(receive):
                log.append(f"{name} began")
                await ends.wait()
        except ClientDisconnect:
            log.append(f"{name} left")
        except Unavailable as error:
            log.append(f"{name} refused: {error.detail}")

    async def run() -> None:
        turns = Turns(Queue("pictures", "too-many", at_once=1, max_waiting=3, setting="LIMIT"))
        leaves = {name: asyncio.Event() for name in "abcdef"}
        ends = {name: asyncio.Event() for name in "abcdef"}
        tasks = {}
        for name in "abcde":
            tasks[name] = asyncio.create_task(take(turns, name, leaves[name], ends[name]))
            await asyncio.sleep(0)
        leaves["b"].set()
        await tasks["b"]
        assert turns.num_waiting == 2
        tasks["c"].cancel()  # happens when the server stops
        await asyncio.wait([tasks["c"]])
        ends["a"].set()
        await tasks["a"]
        ends["d"].set()
        await tasks["d"]
        assert turns.num_waiting == 0
        waiting = asyncio.create_task(take(turns, "f", leaves["f"], ends["f"]))
        ends["f"].set()
        await waiting
        async with turns.take(_nothing):  # both slots are free again
            last = asyncio.create_task(take(turns, "last", leaves["a"], ends["a"]))
            await asyncio.sleep(0)
            turns.close()
            await last

    asyncio.run(run())
    assert log == [
        "a began",
        "e refused: 3 pictures are waiting for their turn already, and more may not (LIMIT=3); try again.",
        "b left",
        "d began",
        "f began",
        "last refused: The service is shutting down.",
    ]
