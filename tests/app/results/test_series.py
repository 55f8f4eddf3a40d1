"""Thinned curves of many runs, a run's predictions on val, and a layer's weights as bytes."""

from __future__ import annotations

from hashlib import sha256
from itertools import product
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.database import Database
from app.results import service
from app.results.evaluations import Evaluated, list_predictions
from app.results.schemas import Prediction, PredictionSort
from app.tables import Checkpoint, Metric, Run, RunStatus
from tests.conftest import AddRun, AssertProblem, TestClient, counting_statements

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
COLUMNS = ("train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy", "val_loss", "val_accuracy")


def add_metrics(database: Database, run_id: str, epochs: list[int], best_epoch: int | None = None) -> None:
    """Add metrics whose values tell their epoch and column."""
    with database.writing() as session:
        for epoch in epochs:
            values = {name: epoch + place / 10 for place, name in enumerate(COLUMNS)}
            session.add(Metric(run_id=run_id, epoch=epoch, seconds=1.0, **values))
        session.get_one(Run, run_id).best_epoch = best_epoch


def read(client: TestClient, **params: Any) -> dict[str, Any]:
    response = client.get("/charts/series", params=params)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


def test_many_runs_come_in_one_answer_and_equal_their_metrics(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    long, short, single, empty = (add_run() for _ in range(4))
    add_metrics(database, long, [1, *range(4, 402, 4), 401], best_epoch=56)
    add_metrics(database, short, [2, 4, 9])
    add_metrics(database, single, [5])
    wanted = [single, long, "nothing-there", short, empty, long]
    with counting_statements(client.app.state.database, "metrics") as statements:  # type: ignore[attr-defined]
        page = read(client, run_id=wanted, points=10, field=["val_accuracy", "train_loss", "val_accuracy"])
    assert len(statements) == 1
    assert (page["has_more"], page["next"]) == (False, None)
    assert [each["run_id"] for each in page["data"]] == [long, short, single, empty]
    assert [each["of"] for each in page["data"]] == [102, 3, 1, 0]
    assert [each["epochs"] for each in page["data"][1:]] == [[2, 4, 9], [5], []]
    for each in page["data"]:
        metrics = client.get(f"/runs/{each['run_id']}/metrics", params={"points": 10}).json()["data"]
        assert each["epochs"] == [metric["epoch"] for metric in metrics]
        for name in ("val_accuracy", "train_loss"):
            assert each[name] == [metric[name] for metric in metrics]
        assert set(each) == {"run_id", "of", "epochs", "val_accuracy", "train_loss"}
    epochs = page["data"][0]["epochs"]
    assert (epochs[0], epochs[-1], 56 in epochs, len(epochs)) == (1, 401, True, 11)


@on_sqlite
def test_a_range_of_epochs_is_thinned_out_by_itself(client: TestClient, database: Database, add_run: AddRun) -> None:
    run_id, best = add_run(), 40
    epochs = [1, 2, 3, *range(5, 60, 5), 58, 60]
    add_metrics(database, run_id, epochs, best_epoch=best)
    path = f"/runs/{run_id}/metrics"
    bounds = [(after, until) for after in (0, 1, 4, 39, 40, 59, 60, 99) for until in (None, 1, 2, 40, 41, 60, 99)]
    for (after, until), points in product(bounds, (2, 5, 20)):
        params = {"after": after} | ({} if until is None else {"until": until})
        there = [epoch for epoch in epochs if after < epoch <= (until or 99)]
        whole = client.get(path, params=params).json()["data"]
        assert [metric["epoch"] for metric in whole] == there
        thinned = [metric["epoch"] for metric in client.get(path, params={**params, "points": points}).json()["data"]]
        assert thinned == sorted(set(thinned) & set(there))
        assert len(thinned) <= points + 1
        if len(there) <= points:
            assert thinned == there
        if there:
            assert (thinned[0], thinned[-1]) == (there[0], there[-1])
        assert (best in thinned) == (best in there)


def test_points_are_evenly_spaced_with_first_last_and_best(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    run_id = add_run()
    add_metrics(database, run_id, list(range(1, 38)), best_epoch=20)
    for points in (2, 3, 5, 24, 36, 37, 38, 1000):
        (found,) = read(client, run_id=run_id, points=points)["data"]
        epochs = found["epochs"]
        assert (epochs[0], epochs[-1]) == (1, 37), points
        assert 20 in epochs
        assert min(points, 37) <= len(epochs) <= min(points + 1, 37)
        steps = np.diff([epoch for epoch in epochs if epoch != 20])
        assert steps.max() <= 2 * np.ceil(36 / (points - 1)) + 1


def test_a_sweeps_curves_come_in_pages(client: TestClient, database: Database, assert_problem: AssertProblem) -> None:
    sweep = client.post("/sweeps", json={"parameters": {"seed": [1, 2, 3, 4, 5]}}).json()
    trials = [
        run["id"] for run in client.get("/runs", params={"sweep_id": sweep["id"], "sort": "created_at"}).json()["data"]
    ]
    for number, run_id in enumerate(trials):
        add_metrics(database, run_id, [1, 2 + number])
    page = read(client, sweep_id=sweep["id"])
    assert [each["run_id"] for each in page["data"]] == trials
    assert page["data"][3]["val_accuracy"] == [1.5, 5.5]
    found: list[str] = []
    after: dict[str, str] = {}
    for _ in range(3):
        page = read(client, sweep_id=sweep["id"], limit=2, **after)
        found += [each["run_id"] for each in page["data"]]
        after = {"after": page["next"]}
    assert (found, page["has_more"]) == (trials, False)
    assert_problem(client.get("/charts/series?sweep_id=nope"), 404, "sweep-not-found")


@on_sqlite
def test_a_page_holds_only_so_many_numbers(
    client: TestClient, add_run: AddRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_NUMBERS", 100)
    ids = [add_run() for _ in range(4)]
    page = read(client, run_id=ids, points=10, field=["val_loss", "val_accuracy"])
    assert ([each["run_id"] for each in page["data"]], page["has_more"]) == (ids[:3], True)
    assert len(read(client, run_id=ids, points=10, after=page["next"])["data"]) == 1


@on_sqlite
def test_what_is_no_series_is_refused(client: TestClient, assert_problem: AssertProblem) -> None:
    for query, pointer in (
        ("", "?run_id"),
        ("run_id=x&sweep_id=y", "?run_id"),
        ("run_id=x&points=1", "?points"),
        ("run_id=x&field=epoch", "?field"),
        ("run_id=x&after=nonsense", "?after"),
        ("&".join(["run_id=x"] * 201), "?run_id"),
    ):
        body = assert_problem(client.get(f"/charts/series?{query}"), 422, "invalid-input")
        assert body["errors"][0]["pointer"].startswith(pointer), query


def make_evaluated(labels: list[int], probabilities: np.ndarray) -> Evaluated:
    number = len(labels)
    pixels = np.arange(number * 64, dtype=np.uint8).reshape(number, 8, 8) % 17
    indices = np.arange(100, 100 + number, dtype=np.int32)
    return Evaluated(indices, pixels, np.array(labels, np.uint8), probabilities.astype(np.float32))


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    label=st.none() | st.integers(0, 9),
    predicted=st.none() | st.integers(0, 9),
    limit=st.integers(1, 7),
)
def test_pages_of_predictions_hold_every_image_once_in_order(
    labels: list[int], seed: int, label: int | None, predicted: int | None, limit: int
) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(10), len(labels)).round(1)
    evaluated = make_evaluated(labels, probabilities)

    def key(sort: str, each: Prediction) -> tuple[float, int]:
        return {"index": 0.0, "confidence": each.confidence, "-confidence": -each.confidence}[sort], each.index

    sorts: list[PredictionSort] = ["index", "confidence", "-confidence"]
    for sort in sorts:
        found: list[Prediction] = []
        for after in range(0, len(labels) + limit, limit):
            page, total = list_predictions(
                evaluated, label=label, predicted=predicted, sort=sort, limit=limit, after=after
            )
            found += page
        assert len(found) == total == len({each.index for each in found})
        assert [key(sort, each) for each in found] == sorted(key(sort, each) for each in found)
        expected = [
            100 + place
            for place, row in enumerate(probabilities)
            if label in (None, labels[place]) and predicted in (None, row.argmax())
        ]
        assert sorted(each.index for each in found) == expected
        for each in found:
            place = each.index - 100
            assert each.probabilities == evaluated.probabilities[place].tolist()
            assert (each.predicted, each.confidence) == (probabilities[place].argmax(), max(each.probabilities))
            assert (each.label, each.pixels) == (labels[place], evaluated.pixels[place].tolist())


@on_sqlite
def test_predictions_on_val_are_paged(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = np.eye(10)[[1, 7, 1]] * [[0.5], [0.9], [0.7]]
    monkeypatch.setattr(service, "evaluate", lambda *_: make_evaluated([1, 1, 2], probabilities))
    url = f"/runs/{add_run()}/predictions"
    page = client.get(url, params={"sort": "confidence", "limit": 2}).json()
    assert [each["index"] for each in page["data"]] == [100, 102]
    assert (page["has_more"], page["next"], page["total"]) == (True, "2", 3)
    page = client.get(url, params={"sort": "confidence", "limit": 2, "after": "2"}).json()
    assert ([each["index"] for each in page["data"]], page["has_more"], page["next"]) == ([101], False, None)
    assert page["data"][0]["probabilities"] == pytest.approx([0, 0, 0, 0, 0, 0, 0, 0.9, 0, 0])
    assert client.get(url, params={"label": 1, "predicted": 1}).json()["total"] == 1
    for query in ("sort=label", "label=10", "predicted=-1", "limit=0", "after=-1"):
        assert_problem(client.get(f"{url}?{query}"), 422, "invalid-input")


@on_sqlite
def test_a_layers_weights_as_bytes_are_those_of_the_json(
    client: TestClient, database: Database, add_run: AddRun
) -> None:
    random = np.random.default_rng(0)
    arrays = {
        f"{kind}{number}": random.normal(size=shape).astype(np.float32)
        for number, outputs, inputs in ((1, 24, 64), (2, 10, 24))
        for kind, shape in (("weights", (outputs, inputs)), ("biases", (outputs,)))
    }
    blob = safetensors.numpy.save(arrays)
    run_id = add_run(status=RunStatus.SUCCEEDED, best_epoch=7)
    with database.writing() as session:
        digest = sha256(blob).hexdigest()
        session.add(Checkpoint(run_id=run_id, role="best", epoch=7, blob=blob, sha256=digest, size_bytes=len(blob)))
    for layer, (outputs, inputs) in ((1, (24, 64)), (2, (10, 24))):
        url = f"/runs/{run_id}/weights?layer={layer}"
        binary, plain = client.get(url, headers={"Accept": "application/octet-stream"}), client.get(url)
        assert binary.headers["content-type"] == "application/octet-stream"
        assert (binary.headers["layer-shape"], binary.headers["layer-epoch"]) == (f"{outputs}, {inputs}", "7")
        values = np.frombuffer(binary.content, "<f4")
        assert values[: outputs * inputs].reshape(outputs, inputs).tolist() == plain.json()["weights"]
        assert values[outputs * inputs :].tolist() == plain.json()["biases"]
        for response in (binary, plain):
            assert "Accept" in response.headers["vary"].split(", ")
