"""By what models are ranked: nulls last, the setting and its election, and the sentence that says why."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from app.database import Database
from app.main import create_app
from app.models import promotion, repository
from app.settings import Settings
from app.tables import PromotionReason, RankedBy, SavedModel
from tests.conftest import AddModel, AssertProblem, TestClient
from tests.graphs import graph_answering


def shifted(accuracy: float, loss: float = 0.5) -> dict[str, Any]:
    return {"shifted_accuracy": accuracy, "shifted_loss": loss, "shifted_standard_error": 0.002}


def order(client: TestClient) -> list[str]:
    return [model["run_id"] for model in client.get("/models").json()["data"]]


def champion(client: TestClient) -> str:
    run_id: str = client.get("/models/champion").json()["model"]["run_id"]
    return run_id


def test_models_are_ranked_by_shifted_accuracy_and_those_without_it_come_last(
    client: TestClient, add_model: AddModel
) -> None:
    ranked = [
        add_model(0.90, **shifted(0.8)),
        add_model(0.91, **shifted(0.7, 0.4)),
        add_model(0.92, **shifted(0.7, 0.5)),
        add_model(0.91, **shifted(0.7, 0.5)),
        add_model(0.91, **shifted(0.7, 0.5), num_parameters=611),
        add_model(0.91, **shifted(0.7, 0.5), num_parameters=611),
        add_model(0.99),
        add_model(0.98),
    ]
    assert order(client) == ranked
    assert champion(client) == ranked[0]
    pages = client.get("/models?limit=7").json()
    assert [model["run_id"] for model in client.get("/models", params={"after": pages["next"]}).json()["data"]] == [
        ranked[-1]
    ]
    assert client.put("/models/ranking", json={"by": "val"}).json()["champion_run_id"] == ranked[6]
    by_val = [ranked[number] for number in (6, 7, 2, 1, 3, 4, 5, 0)]
    assert order(client) == by_val


def test_changing_the_order_elects_at_once_and_twice_is_harmless(client: TestClient, add_model: AddModel) -> None:
    by_shifted, by_val = add_model(0.9, **shifted(0.9)), add_model(0.95, **shifted(0.8))
    assert champion(client) == by_shifted
    for _ in range(2):
        changed = client.put("/models/ranking", json={"by": "val"})
        assert changed.status_code == 200
        assert (changed.json()["by"], changed.json()["champion_run_id"]) == ("val", by_val)
    assert client.get("/models/ranking").json() == changed.json()
    newest = client.get("/events").json()["data"][-1]
    assert (newest["type"], newest["run_id"]) == ("promoted", by_val)
    assert newest["data"] == {
        "reason": "automatic",
        "val_accuracy": 0.95,
        "shifted_accuracy": 0.8,
        "previous_run_id": by_shifted,
    }
    assert client.put("/models/ranking", json={"by": "shifted"}).json()["champion_run_id"] == by_shifted
    assert len(client.get("/models/champion").json()["history"]) == 3


def test_a_pinned_champion_stays_whatever_the_order(client: TestClient, add_model: AddModel) -> None:
    by_shifted, by_val = add_model(0.9, **shifted(0.9)), add_model(0.95, **shifted(0.8))
    pinned = add_model(0.5)
    client.put("/models/champion", json={"run_id": pinned})
    for by, other in (("val", by_val), ("shifted", by_shifted)):
        client.put("/models/ranking", json={"by": by})
        shown = client.get("/models/champion").json()
        assert (shown["model"]["run_id"], shown["automatic"]["run_id"]) == (pinned, other)
        assert shown["why"].startswith("Pinned by hand; ")
        assert other in shown["why"]


def test_a_champion_without_a_value_loses_to_no_worse_model_until_it_has_one(
    database: Database, add_model: AddModel
) -> None:
    """After an upgrade, workers evaluate one model after the other."""
    first, worse, worst = add_model(0.95), add_model(0.9), add_model(0.8)

    def evaluate(run_id: str, accuracy: float) -> str:
        with database.writing() as session:
            model = session.get_one(SavedModel, run_id)
            model.shifted_accuracy, model.shifted_loss = accuracy, 0.5
            promotion.elect(session)
        with database.reading() as session:
            elected = repository.get_champion(session)
            assert elected is not None
            assert elected.reason is PromotionReason.AUTOMATIC
            return elected.run_id

    assert evaluate(worst, 0.9) == evaluate(worse, 0.4) == first
    assert evaluate(first, 0.85) == worst  # the champion has a value, so the order decides
    with database.writing() as session:
        session.get_one(SavedModel, worst).shifted_accuracy = None
    better = add_model(0.96, **shifted(0.95))  # better by val as well: it does not wait
    with database.reading() as session:
        elected = repository.get_champion(session)
        assert elected is not None
        assert elected.run_id == better


def test_while_the_champion_has_no_value_the_best_by_val_is_elected(client: TestClient, add_model: AddModel) -> None:
    first = add_model(0.996)
    add_model(0.99, **shifted(0.95))  # first by shifted accuracy, and worse by val
    assert champion(client) == first
    assert "Best of 2 models on the canonical split by val accuracy" in client.get("/models/champion").json()["why"]
    better = add_model(0.998, **shifted(0.9))
    assert champion(client) == better
    assert client.get("/models/champion").json()["why"].endswith("of run " + order(client)[0] + ".")


def test_a_champion_that_cannot_be_evaluated_is_ranked_like_any_other(
    client: TestClient, database: Database, add_model: AddModel
) -> None:
    damaged = add_model(0.996, b"this is no graph")
    best = add_model(0.99, **shifted(0.95))
    assert champion(client) == damaged
    with database.writing() as session:
        repository.mark_unusable(session, damaged)
        promotion.elect(session)
    assert champion(client) == best
    add_model(0.999, b"nor is this")
    assert champion(client) == best


def test_the_predictor_falls_back_in_the_same_order(settings: Settings, add_model: AddModel) -> None:
    add_model(0.99, graph_answering(1), **shifted(0.7))
    next_best = add_model(0.9, graph_answering(2), **shifted(0.8))
    add_model(0.95, b"this is no graph", **shifted(0.9))
    with TestClient(create_app(settings)) as client:
        answer = client.post("/predict", json={"instances": [[[0] * 8] * 8]}).json()
    assert answer["model"]["run_id"] == next_best


def test_the_champion_says_why(client: TestClient, add_model: AddModel) -> None:
    def why() -> str:
        sentence: str = client.get("/models/champion").json()["why"]
        return sentence

    first = add_model(0.9, **shifted(0.9812))
    assert why() == "The only model on the canonical split; its shifted accuracy is 0.9812 (± 0.0020)."
    add_model(0.8, **shifted(0.9873))
    begins = "Best of 2 models on the canonical split by shifted accuracy: 0.9873 (± 0.0020), next best "
    assert why() == f"{begins}0.9812 of run {first}."
    equal = add_model(0.7, **shifted(0.9873))
    assert why().endswith(f"next best 0.9873 of run {equal}; val accuracy decides between equals.")
    client.put("/models/ranking", json={"by": "val"})
    assert why().startswith("Best of 3 models on the canonical split by val accuracy: 0.9000, next best 0.8000")
    client.put("/models/champion", json={"run_id": first})
    assert why() == "Pinned by hand; its val accuracy is 0.9000. It would be champion without the pin too."


def test_without_models_there_is_an_order_and_no_champion(client: TestClient) -> None:
    assert client.get("/models/ranking").json() == {"by": "shifted", "champion_run_id": None, "why": None}
    assert client.put("/models/ranking", json={"by": "val"}).json()["by"] == "val"


def test_a_wrong_order_is_refused(client: TestClient, assert_problem: AssertProblem) -> None:
    path = "/models/ranking"
    wrong = assert_problem(client.put(path, json={"by": "size"}), 422, "invalid-input")
    assert wrong["errors"][0]["pointer"] == "#/by"
    assert_problem(client.put(path, json={}), 422, "invalid-input")
    assert_problem(client.put(path, json={"by": "val", "champion_run_id": None}), 422, "invalid-input")
    assert_problem(client.put(path, content="by=val"), 415, "unsupported-media-type")
    assert client.get(path).json()["by"] == "shifted"


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_only_an_admin_key_changes_the_order(
    settings: Settings, database: Database, assert_problem: AssertProblem
) -> None:
    with_keys = settings.model_copy(update={"api_keys": SecretStr("predict:a-key")})
    with TestClient(create_app(with_keys)) as client:
        client.headers["Authorization"] = "Bearer a-key"
        assert client.get("/models/ranking").status_code == 200
        assert_problem(client.put("/models/ranking", json={"by": "val"}), 403, "forbidden")
    with database.reading() as session:
        assert repository.get_ranked_by(session) is RankedBy.SHIFTED


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_prometheus_sees_both_accuracies_of_the_champion(client: TestClient, add_model: AddModel) -> None:
    assert "digitlab_champion_accuracy{" not in client.get("/metrics").text
    add_model(0.75)
    assert 'digitlab_champion_accuracy{split="val"} 0.75' in client.get("/metrics").text
    assert "shifted_val" not in client.get("/metrics").text
    add_model(0.875, **shifted(0.625))
    assert 'digitlab_champion_accuracy{split="shifted_val"} 0.625' in client.get("/metrics").text
