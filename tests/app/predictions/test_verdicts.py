"""Verdicts: which of them comes first, what they rest on, and that one image is judged as it is among others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.database import Database
from app.predictions import verdicts
from app.predictions.predictor import Predictor
from app.predictions.verdicts import BLANK, NAMES, NOT_A_DIGIT, SURE, UNSURE, Judge, TrainImages
from app.tables import SavedModel
from tests.conftest import AddModel, TestClient
from tests.graphs import graph_answering, random_graph
from workers.preparation import register_datasets

RANDOM = np.random.default_rng(0)
TRAIN = RANDOM.integers(0, 17, (500, 64), dtype=np.uint8)


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray[Any, Any] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


@pytest.mark.parametrize("distance", [20.0, 45.0, 60.0])
def test_an_image_is_beyond_if_all_train_images_are_further_away(distance: float) -> None:
    train = TrainImages(TRAIN.reshape(-1, 8, 8))
    images = RANDOM.uniform(0, 16, (300, 64)).astype(np.float32)
    images[:100] = TRAIN[::5] + RANDOM.normal(0, 2, (100, 64))
    expected = np.linalg.norm(images[:, None] - TRAIN[None].astype(np.float32), axis=2).min(axis=1) > distance
    assert 0 < expected.sum() < 300 or distance == 60.0
    np.testing.assert_array_equal(train.are_beyond(images, distance), expected)
    assert [train.is_beyond(image, distance) for image in images] == expected.tolist()
    assert train.num_bytes == 500 * 65 * 4


def test_few_train_images_are_enough() -> None:
    images = np.zeros((2, 64), np.float32)
    images[1] = 16
    assert TrainImages(np.zeros((1, 64), np.uint8)).are_beyond(images, 100).tolist() == [False, True]


def test_the_first_verdict_that_holds_counts() -> None:
    """Each image has one property more that an earlier verdict looks at."""
    near = TRAIN[0].astype(np.float32)
    far = np.where(np.arange(64) % 2, 16, 0).astype(np.float32)
    blank = np.full(64, 7, np.float32)
    blank[3] = 9  # no two pixels differ by more than 2
    faint = blank.copy()
    faint[5] = 6.5
    images = np.stack([near, near, near, far, blank, faint])
    confidences = np.array([0.5, 0.9, 0.9, 0.9, 0.9, 0.9], np.float32)
    probabilities = np.full((6, 10), 0.0, np.float32)
    probabilities[:, 4] = confidences
    logits = np.zeros((6, 10), np.float32)
    logits[:, 4] = [10, 10, 1, 10, 1, 10]  # the third and the fifth have much energy
    judge = Judge(sure_confidence=0.9 - 1e-6, max_energy=-5.0, max_distance=20.0, train_images=TrainImages(TRAIN))
    expected = [UNSURE, SURE, NOT_A_DIGIT, NOT_A_DIGIT, BLANK, NOT_A_DIGIT]
    assert judge.judge(images, probabilities, logits).tolist() == expected
    by_confidence = Judge(sure_confidence=0.9 - 1e-6)
    assert by_confidence.judge(images, probabilities, None).tolist() == [UNSURE, SURE, SURE, SURE, BLANK, SURE]
    assert Judge().judge(images, probabilities, logits).tolist() == [UNSURE] * 4 + [BLANK, UNSURE]


def test_one_image_is_judged_as_it_is_among_others() -> None:
    images = RANDOM.integers(0, 17, (400, 64)).astype(np.float32)
    images[3::7] = RANDOM.integers(5, 8, (57, 64))
    images[::5] = TRAIN[:80]
    logits = RANDOM.normal(0, 4, (400, 10)).astype(np.float32)
    probabilities = softmax(logits)
    judge = Judge(sure_confidence=0.9, max_energy=-6.0, max_distance=45.0, train_images=TrainImages(TRAIN))
    together = judge.judge(images, probabilities, logits)
    alone = [judge.judge(images[i : i + 1], probabilities[i : i + 1], logits[i : i + 1])[0] for i in range(400)]
    assert together.tolist() == alone
    assert len(np.unique(together)) == len(NAMES)


def add_judged(add_model: AddModel, **columns: Any) -> str:
    values = {"shifted_accuracy": 0.9, "shifted_loss": 0.1, "shifted_standard_error": 0.01}
    return add_model(0.9, **{"graph": random_graph(), **values, **columns})


def ask(client: TestClient, images: np.ndarray[Any, Any]) -> list[str]:
    answer = client.post("/predict", json={"instances": images.reshape(-1, 8, 8).tolist()}).json()
    return [prediction["verdict"] for prediction in answer["predictions"]]


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_models_own_thresholds_judge(client: TestClient, database: Database, add_model: AddModel) -> None:
    register_datasets(database)
    digit = np.array(client.get("/datasets/digits/samples?split=val&limit=1").json()["data"][0]["pixels"])
    noise = RANDOM.integers(0, 17, (8, 8))
    images = np.stack([digit, noise, np.zeros((8, 8), int)])
    for columns, expected in (
        ({}, ["unsure", "unsure", "blank"]),
        ({"sure_confidence": 0.0}, ["sure", "sure", "blank"]),
        ({"sure_confidence": 0.0, "max_distance": 35.0}, ["sure", "not_a_digit", "blank"]),
        ({"sure_confidence": 0.0, "max_energy": -1e9}, ["not_a_digit", "not_a_digit", "blank"]),
        ({"sure_confidence": 0.0, "max_energy": 1e9}, ["sure", "sure", "blank"]),
        # A graph without logits has no energy.
        ({"sure_confidence": 0.0, "max_energy": -1e9, "graph": graph_answering(1)}, ["sure", "sure", "blank"]),
    ):
        run_id = add_judged(add_model, **columns)
        answer = client.post(f"/predict?run_id={run_id}", json={"instances": images.tolist()}).json()
        assert [each["verdict"] for each in answer["predictions"]] == expected, columns


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_thresholds_that_become_known_are_used_and_train_images_are_shared(
    database: Database, add_model: AddModel
) -> None:
    register_datasets(database)
    champion, other = add_model(0.95, random_graph()), add_model(0.9, random_graph())
    predictor = Predictor(database, poll_seconds=60, max_loaded_bytes=2**20)
    predictor._refresh()
    assert predictor.load(other).judge == predictor.champion.judge == Judge()
    before = predictor.champion
    predictor._refresh()
    assert predictor.champion is before  # nothing is known yet: it is not loaded again
    with database.writing() as session:
        for run_id in (champion, other):
            model = session.get_one(SavedModel, run_id)
            model.shifted_accuracy, model.shifted_loss, model.max_distance = 0.5, 0.5, 30.0
    predictor._refresh()
    judges = [predictor.champion.judge, predictor.load(other).judge]
    assert [judge.max_distance for judge in judges] == [30.0, 30.0]
    assert judges[0].train_images is judges[1].train_images is not None
    kept = predictor.champion
    predictor._refresh()
    assert predictor.champion is kept


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_train_images_count_as_memory_once(database: Database, add_model: AddModel) -> None:
    register_datasets(database)
    ids = [add_judged(add_model, max_distance=30.0) for _ in range(3)]
    predictor = Predictor(database, poll_seconds=60, max_loaded_bytes=2**30)
    model = predictor.load(ids[0])
    assert model.judge.train_images is not None
    images = model.judge.train_images.num_bytes
    assert images == 1257 * 65 * 4
    bounded = Predictor(database, poll_seconds=60, max_loaded_bytes=2 * model.num_bytes + images)
    for run_id in ids:
        bounded.load(run_id)
    assert [bounded.cached(run_id) is not None for run_id in ids] == [False, True, True]
    too_small = Predictor(database, poll_seconds=60, max_loaded_bytes=model.num_bytes + images - 1)
    too_small.load(ids[0])
    assert too_small.cached(ids[0]) is None


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_damaged_train_images_cost_the_distance_and_not_the_predictions(
    client: TestClient, add_model: AddModel
) -> None:
    run_id = add_judged(add_model, max_distance=1.0, sure_confidence=0.0)  # no dataset is registered here
    answer = client.post(f"/predict?run_id={run_id}", json={"instances": RANDOM.integers(0, 17, (1, 8, 8)).tolist()})
    assert answer.json()["predictions"][0]["verdict"] == "sure"


def test_no_product_is_large_enough_for_several_threads() -> None:
    train = TrainImages(RANDOM.integers(0, 17, (1257, 64)))
    sizes = [transposed.size for transposed, _ in train._blocks]
    assert sum(sizes) == 1257 * 64
    assert all(size <= verdicts.PRODUCTS_AT_ONCE for size in sizes)
