"""Inspections of a run that is missing, unfinished, failed or a forest; labels and layer summaries."""

from __future__ import annotations

import numpy as np
import pytest

from app.database import Database
from app.results.evaluations import Evaluated, compare, confusion_matrix, find_mistakes
from app.results.service import distinguishing_labels
from app.run_config import Mlp, RandomForest, RunConfig
from app.tables import Dataset, Evaluation, Run, RunStatus
from tests.conftest import AddRun, AssertProblem, TestClient

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

OF_A_RUN = ("curves.png", "curves.svg", "summary", "weights", "weights.png", "gradients.png", "confusion")
OF_A_MODEL = ("confusion", "confusion.png", "mistakes", "mistakes.png")


@on_sqlite
@pytest.mark.parametrize("path", [*OF_A_RUN, *OF_A_MODEL])
def test_an_unknown_run(client: TestClient, assert_problem: AssertProblem, path: str) -> None:
    assert_problem(client.get(f"/runs/nope/{path}"), 404, "run-not-found")


@on_sqlite
@pytest.mark.parametrize("path", OF_A_MODEL)
def test_a_run_without_a_saved_model_says_when_it_will_have_one(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem, path: str
) -> None:
    queued = assert_problem(client.get(f"/runs/{add_run()}/{path}"), 404, "saved-model-not-found")
    assert "is queued, at epoch 0 of 100" in queued["detail"]
    assert "when it has succeeded" in queued["detail"]
    failed_id = add_run(status=RunStatus.FAILED, error_code="diverged", error_detail="The loss is nan")
    failed = assert_problem(client.get(f"/runs/{failed_id}/{path}"), 404, "saved-model-not-found")
    assert "has failed (diverged: The loss is nan)" in failed["detail"]
    assert "will have none" in failed["detail"]


@on_sqlite
@pytest.mark.parametrize("path", ["weights", "weights.png"])
def test_weights_before_the_first_checkpoint(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem, path: str
) -> None:
    body = assert_problem(client.get(f"/runs/{add_run()}/{path}"), 404, "weights-not-found")
    assert "its first checkpoint" in body["detail"]


@on_sqlite
@pytest.mark.parametrize("path", ["weights", "weights.png", "gradients.png"])
def test_a_forest_has_no_weights(client: TestClient, add_run: AddRun, assert_problem: AssertProblem, path: str) -> None:
    run_id = add_run(RunConfig(model=RandomForest(kind="random_forest"), scaling=None, training=None))
    assert "forest" in assert_problem(client.get(f"/runs/{run_id}/{path}"), 409, "no-weights")["detail"]
    assert client.get(f"/runs/{run_id}/summary").json()["layers"][0]["kind"] == "random_forest"


@on_sqlite
def test_a_summary_counts_the_parameters(client: TestClient, add_run: AddRun) -> None:
    config = RunConfig(model=Mlp(hidden_sizes=[24, 12], activation="tanh", dropout=0.25))
    run_id = add_run(config, num_parameters=config.num_parameters)
    summary = client.get(f"/runs/{run_id}/summary").json()
    assert [layer["kind"] for layer in summary["layers"]] == [
        "scale", "linear", "tanh", "dropout", "linear", "tanh", "dropout", "linear", "softmax",
    ]  # fmt: skip
    assert sum(layer["num_parameters"] for layer in summary["layers"]) == summary["num_parameters"]
    assert summary["size_bytes"] == 4 * summary["num_parameters"]
    text = client.get(f"/runs/{run_id}/summary", headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert "linear1" in text.text
    assert "1,560" in text.text


@on_sqlite
def test_curves_of_a_run_without_metrics_and_of_too_many(
    client: TestClient, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    run_id = add_run()
    picture = client.get(f"/runs/{run_id}/curves.png")
    assert picture.content.startswith(b"\x89PNG")
    assert (
        client.get(f"/runs/{run_id}/curves.png", headers={"If-None-Match": picture.headers["etag"]}).status_code == 304
    )
    assert_problem(client.get("/charts/curves.png"), 422, None)
    assert_problem(client.get("/charts/curves.png", params={"run_id": [run_id] * 13}), 422, None)
    assert_problem(client.get("/charts/curves.png", params={"run_id": [run_id, "nope"]}), 404, "run-not-found")


@on_sqlite
@pytest.mark.parametrize("name", ["curves.png", "curves.svg", "gradients.png"])
def test_a_picture_has_another_etag_once_its_run_has_changed(
    client: TestClient, database: Database, add_run: AddRun, name: str
) -> None:
    run_id = add_run()
    url = f"/runs/{run_id}/{name}"
    etags = [client.get(url).headers["etag"]]

    def change_epoch() -> None:
        with database.writing() as session:
            session.get_one(Run, run_id).epoch = 7

    for change in (change_epoch, lambda: client.patch(f"/runs/{run_id}", json={"name": "renamed"})):
        change()
        picture = client.get(url, headers={"If-None-Match": etags[-1]})
        assert picture.status_code == 200
        etags.append(picture.headers["etag"])
    assert len(set(etags)) == 3


@on_sqlite
def test_a_damaged_evaluation_is_named(
    client: TestClient, database: Database, add_run: AddRun, assert_problem: AssertProblem
) -> None:
    run_id = add_run(status=RunStatus.SUCCEEDED)
    with database.writing() as session:
        session.add(Evaluation(run_id=run_id, split="val", probabilities=b"\0" * 40, sha256="0" * 64))
        assert session.get(Dataset, "digits") is None
    assert_problem(client.get(f"/runs/{run_id}/confusion"), 500, None)


def evaluated(labels: list[int], predicted: list[int], confidences: list[float]) -> Evaluated:
    probabilities = np.zeros((len(labels), 10), np.float32)
    probabilities[np.arange(len(labels)), predicted] = confidences
    indices = np.arange(100, 100 + len(labels), dtype=np.int32)
    return Evaluated(indices, np.zeros((len(labels), 8, 8), np.uint8), np.array(labels, np.uint8), probabilities)


def test_confusion_of_digits_that_do_not_occur() -> None:
    found = confusion_matrix(evaluated([1, 1, 2], [1, 3, 2], [0.9, 0.8, 0.7]))
    assert (found.counts[1][1], found.counts[1][3], found.counts[2][2]) == (1, 1, 1)
    assert found.normalized[1] == [0, 0.5, 0, 0.5, 0, 0, 0, 0, 0, 0]
    assert found.normalized[0] == [0] * 10
    assert (found.recall[1], found.precision[3], found.recall[5]) == (0.5, 0, 0)
    assert found.accuracy == pytest.approx(2 / 3)


def test_mistakes_are_filtered_sorted_and_compared() -> None:
    one = evaluated([1, 1, 2, 3], [7, 1, 9, 7], [0.6, 0.9, 0.8, 0.7])
    other = evaluated([1, 1, 2, 3], [1, 4, 9, 3], [0.6, 0.9, 0.5, 0.7])
    mistakes = find_mistakes(one)
    assert [(each.index, each.label, each.predicted) for each in mistakes] == [(102, 2, 9), (103, 3, 7), (100, 1, 7)]
    assert [each.index for each in find_mistakes(one, predicted=7)] == [103, 100]
    assert [each.index for each in find_mistakes(one, label=1, predicted=7)] == [100]
    compared = compare(mistakes, find_mistakes(other), "other")
    assert [each.index for each in compared.fixed] == [101]
    assert [each.index for each in compared.introduced] == [103, 100]
    (shared,) = compared.shared
    assert shared.index == 102
    assert shared.confidence == pytest.approx(0.8), "as this run makes it"


def run(name: str = "", **config: object) -> Run:
    return Run(id=f"id-{name}-{config}", name=name, config=RunConfig.model_validate(config).model_dump())


def test_labels_name_what_differs() -> None:
    assert distinguishing_labels([run(seed=1), run(seed=2)]) == ["seed 1", "seed 2"]
    mlp = {"kind": "mlp", "hidden_sizes": [16, 8]}
    assert distinguishing_labels([run(), run(model=mlp)]) == ["hidden_sizes 128-64", "hidden_sizes 16-8"]
    assert distinguishing_labels([run("a", seed=1), run("b", seed=2)]) == ["a: seed 1", "b: seed 2"]
    same = distinguishing_labels([run("a"), run("a")])
    assert all(label.startswith("id-a") for label in same)
