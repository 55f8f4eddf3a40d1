"""`POST /predict`: all formats give the same predictions, and the fast parser never differs from the exact one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any, cast

import hypothesis
import numpy as np
import onnxruntime
import orjson
import pytest
from hypothesis import strategies as st

from app.errors import AppError
from app.predictions import endpoints, inference, instances
from app.predictions.answers import Digits, to_json
from app.predictions.batching import Asked, Batcher
from app.predictions.instances import parse_bytes, parse_instances
from app.predictions.predictor import LoadedModel, Probabilities
from app.predictions.verdicts import NAMES, Verdicts
from tests.conftest import AddModel, AssertProblem, TestClient
from tests.graphs import graph_answering, random_graph

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

BINARY = "application/octet-stream"
RANDOM = np.random.default_rng(0)


def digits_of(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return RANDOM.integers(0, 17, (count, 8, 8), dtype=np.uint8)


def probabilities_of(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Compute the probabilities with ONNX Runtime directly."""
    session = onnxruntime.InferenceSession(random_graph(), providers=["CPUExecutionProvider"])
    answered: np.ndarray[Any, Any] = session.run(None, {"pixels": images.reshape(-1, 64).astype(np.float32)})[0]
    return answered


# Some sizes are processed in the event loop and some in a thread, for JSON as well as for bytes.
SIZES = (1, 2, 100, inference.INLINE_BINARY_BYTES // 64 + 1, 4096)


@on_sqlite
@pytest.mark.parametrize("count", SIZES)
def test_every_way_in_and_out_answers_the_same(client_with_model: TestClient, count: int) -> None:
    images = digits_of(count)
    expected = probabilities_of(images)
    document, binary = {"instances": images.tolist()}, images.tobytes()
    full = client_with_model.post("/predict", json=document).json()
    assert full == client_with_model.post("/predict", content=binary, headers={"Content-Type": BINARY}).json()
    predictions = full["predictions"]
    np.testing.assert_allclose([each["probabilities"] for each in predictions], expected, atol=1e-6)
    assert [each["digit"] for each in predictions] == expected.argmax(axis=1).tolist()
    assert all(each["confidence"] == each["probabilities"][each["digit"]] for each in predictions)

    lean = client_with_model.post("/predict?probabilities=false", json=document).json()
    assert lean["model"] == full["model"]
    assert lean["predictions"] == [{name: each[name] for name in ("digit", "confidence")} for each in predictions]
    judged = client_with_model.post("/predict?probabilities=false&verdict=true", json=document).json()
    names = ("digit", "confidence", "verdict")
    assert judged["predictions"] == [{name: each[name] for name in names} for each in predictions]

    headers = {"Content-Type": BINARY, "Accept": BINARY}
    answer = client_with_model.post("/predict", content=binary, headers=headers)
    assert answer.headers["content-type"] == BINARY
    assert list(answer.content) == [each["digit"] for each in predictions]
    judged = client_with_model.post("/predict?verdict=true", content=binary, headers=headers)
    pairs = [number for each in predictions for number in (each["digit"], NAMES.index(each["verdict"]))]
    assert list(judged.content) == pairs
    assert answer.headers["model-run-id"] == full["model"]["run_id"]
    assert answer.headers["model-sha256"] == full["model"]["sha256"]
    assert float(answer.headers["model-val-accuracy"]) == full["model"]["val_accuracy"]


@on_sqlite
def test_large_batches_leave_the_event_loop_and_small_ones_stay(
    client_with_model: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noted(*arguments: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return to_json(*arguments)

    monkeypatch.setattr(endpoints, "to_json", noted)
    for count in (1, 256, 4096):
        client_with_model.post("/predict", json={"instances": digits_of(count).tolist()})
    for count in (1, 1024, 1025):
        body = digits_of(count).tobytes()
        client_with_model.post("/predict", content=body, headers={"Content-Type": BINARY})
    assert ["worker" in name for name in threads] == [False, False, True] * 2, threads


@on_sqlite
@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "#"),
        (b"\0" * 63, "#"),
        (b"\0" * 65, "#"),
        (b"\0" * 64 * 4097, "#"),
        (b"\0" * 64 + b"\0" * 20 + b"\x11" + b"\0" * 43, "#/1/2/4"),
        (b"\xff" * 64, "#/0/0/0"),
    ],
)
def test_bytes_that_are_no_images_are_answered_with_their_place(
    client_with_model: TestClient, assert_problem: AssertProblem, body: bytes, pointer: str
) -> None:
    response = client_with_model.post("/predict", content=body, headers={"Content-Type": BINARY})
    assert assert_problem(response, 422, "invalid-input")["errors"][0]["pointer"] == pointer


@on_sqlite
def test_a_compressed_body_is_refused(client_with_model: TestClient, assert_problem: AssertProblem) -> None:
    headers = {"Content-Type": BINARY, "Content-Encoding": "gzip"}
    assert_problem(client_with_model.post("/predict", content=b"\0" * 64, headers=headers), 415, None)


@on_sqlite
@pytest.mark.parametrize(
    ("query", "pointer"),
    [("probabilities=maybe", "?probabilities"), ("run_id=" + "x" * 37, "?run_id"), ("run_id=%00", "?run_id")],
)
def test_a_wrong_query_is_answered_with_its_place(
    client_with_model: TestClient, assert_problem: AssertProblem, query: str, pointer: str
) -> None:
    response = client_with_model.post(f"/predict?{query}", json={"instances": digits_of(1).tolist()})
    assert assert_problem(response, 422, "invalid-input")["errors"][0]["pointer"] == pointer


@on_sqlite
def test_another_method_is_named_as_impossible(client_with_model: TestClient, assert_problem: AssertProblem) -> None:
    response = client_with_model.get("/predict")
    assert_problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "POST"


@on_sqlite
def test_a_run_is_asked_by_its_id_and_forgotten_with_it(
    client_with_model: TestClient, add_model: AddModel, assert_problem: AssertProblem
) -> None:
    other = add_model(0.1, graph_answering(7))
    path, image = f"/predict?run_id={other}", {"instances": digits_of(1).tolist()}
    answer = client_with_model.post(path, json=image).json()
    assert (answer["model"]["run_id"], answer["predictions"][0]["digit"]) == (other, 7)
    assert_problem(client_with_model.post("/predict?run_id=nobody", json=image), 404, "run-not-found")


def parsed(body: bytes) -> tuple[str, Any]:
    try:
        return "pixels", parse_instances(body).tolist()
    except AppError as error:
        return error.slug, [(place.pointer, place.detail) for place in error.errors] or error.detail


def parsed_exactly(body: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """Parse a body with the exact parser, which checks every value."""
    with monkeypatch.context() as patched:
        patched.setattr(instances, "_parse_well_formed", lambda _: None)
        return parsed(body)


PIXELS = st.one_of(
    st.integers(-2, 20), st.floats(0, 16), st.floats(), st.booleans(), st.none(), st.integers(), st.text(max_size=2)
)
IMAGES = st.lists(st.lists(PIXELS, min_size=7, max_size=9), min_size=7, max_size=9)
GOOD = st.lists(
    st.lists(st.lists(st.one_of(st.integers(0, 16), st.floats(0, 16)), min_size=8, max_size=8), min_size=8, max_size=8),
    min_size=1,
    max_size=3,
)
NUMBERS = ["1e1", "1E0", "0.5", "-0", "-1", "1e-3", "01", "1.", ".5", "+1", "1 2", "1e400", "16.0000001", "1" * 30, ""]


@pytest.mark.parametrize("reader", ["simdjson", "orjson"])
@hypothesis.settings(max_examples=200)
@hypothesis.given(data=st.data())
def test_the_fast_way_never_differs_from_the_exact_one(reader: str, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        if reader == "orjson":
            monkeypatch.setattr(instances, "simdjson", None)
        images = data.draw(st.one_of(GOOD, st.lists(st.one_of(IMAGES, PIXELS), max_size=2)))
        separators = data.draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]))
        body = json.dumps({"instances": images}, separators=separators)
        if data.draw(st.booleans()):  # inserts any text at any place
            place = data.draw(st.integers(0, len(body)))
            text = data.draw(st.one_of(st.sampled_from(NUMBERS), st.sampled_from('[]{},:"eE+-. 0123456789'), st.text()))
            body = body[:place] + text + body[place + data.draw(st.integers(0, 2)) :]
        encoded = body.encode("utf-8", "surrogatepass")
        fast, exact = parsed(encoded), parsed_exactly(encoded, monkeypatch)
        assert fast == exact or (fast[0] == exact[0] == "pixels" and np.array_equal(fast[1], exact[1]))


def test_whole_numbers_take_the_fast_way() -> None:
    body = orjson.dumps({"instances": digits_of(300).tolist()})
    assert instances._parse_well_formed(body) is not None
    with_spaces = json.dumps({"instances": digits_of(2).astype(float).tolist()}).encode()
    assert instances._parse_well_formed(with_spaces) is not None


def test_bytes_and_numbers_are_read_alike() -> None:
    images = digits_of(5)
    as_json = parse_instances(orjson.dumps({"instances": images.tolist()}))
    assert np.array_equal(parse_bytes(images.tobytes()), as_json)
    assert as_json.dtype == np.float32
    assert as_json.shape == (5, 64)


def test_requests_that_arrive_together_are_inferred_together_each_by_its_model() -> None:
    one, other = (FakeModel(digit) for digit in (3, 7))

    async def ask_all() -> list[Any]:
        batcher = Batcher()
        asked = [(one, 2), (other, 1), (one, 3), (one, 1)]
        return list(await asyncio.gather(*(ask(batcher, model, count) for model, count in asked)))

    answers = asyncio.run(ask_all())
    assert [orjson.loads(answer)["digits"] for answer in answers] == [[3, 3], [7], [3, 3, 3], [3]]
    assert [orjson.loads(answer)["shape"] for answer in answers] == [[2, 10], [1, 10], [3, 10], [1, 10]]
    assert (one.batches, other.batches) == ([6], [1])


def test_a_batch_is_bounded_and_a_failure_reaches_all_in_it() -> None:
    model, broken = FakeModel(1), FakeModel(None)

    async def ask_all(which: FakeModel, counts: list[int]) -> list[Any]:
        batcher = Batcher()
        asked = (ask(batcher, which, count) for count in counts)
        return list(await asyncio.gather(*asked, return_exceptions=True))

    assert len(asyncio.run(ask_all(model, [1000] * 10))) == 10
    assert sum(model.batches) == 10_000
    assert max(model.batches) <= 5_000
    assert [str(each) for each in asyncio.run(ask_all(broken, [1, 1]))] == ["broken"] * 2


def ask(batcher: Batcher, model: FakeModel, count: int) -> Coroutine[Any, Any, bytes]:
    def write(_model: LoadedModel, digits: Digits, probabilities: Probabilities, verdicts: Verdicts | None) -> bytes:
        assert verdicts is None
        return orjson.dumps({"digits": digits.tolist(), "shape": probabilities.shape})

    asked = Asked(np.zeros((count, 64), np.float32), write, with_verdicts=False)
    return batcher.answer(cast(LoadedModel, model), asked)


class FakeModel:
    """Predicts always the same digit, or raises an error; records how many images each call contains."""

    def __init__(self, digit: int | None) -> None:
        self.digit = digit
        self.batches: list[int] = []

    def predict(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.digit is None:
            raise RuntimeError("broken")
        self.batches.append(len(pixels))
        probabilities = np.zeros((len(pixels), 10), np.float32)
        probabilities[:, self.digit] = 1
        return probabilities
