"""Shifted val: its copies, the evaluation of a graph on them, and its standard error."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from app.predictions.verdicts import BLANK, NOT_A_DIGIT, SURE, Judge, TrainImages
from tests.graphs import graph_answering, random_graph
from tests.workers.training.conftest import CPU, Digits, finish
from workers.training import export
from workers.training.augmentation import make_copies
from workers.training.bank import Banks
from workers.training.config import AugmentationConfig, CosineConfig, OptimizerConfig
from workers.training.data import load_dataset, split_indices
from workers.training.loop import StackTraining
from workers.training.randomness import Purpose
from workers.training.shifted import SplitImages, clustered_error, evaluate, make_shifted_val, nearest


@pytest.fixture(scope="module")
def images() -> SplitImages:
    pixels, labels = load_dataset("digits")
    return SplitImages(pixels, labels, split_indices(labels, val_size=0.3, test_size=0.0, seed=20231110))


def test_the_copies_of_an_image_depend_on_its_number_in_the_dataset_alone(images: SplitImages) -> None:
    shifted = make_shifted_val(images.pixels, images.split.val).reshape(540, 10, 64)
    for place in (0, 77):
        number = images.split.val[place]
        alone = make_copies(images.pixels[number : number + 1], 0, 10, 1.0, Purpose.SHIFT, numbers=np.array([number]))
        np.testing.assert_array_equal(shifted[place], alone[:, 0])
    others = make_shifted_val(images.pixels, images.split.val[:5])
    np.testing.assert_array_equal(others, shifted[:5].reshape(-1, 64))


def test_a_graph_is_evaluated_on_every_copy(images: SplitImages) -> None:
    graph = random_graph()
    evaluation = evaluate(graph, images)
    shifted = make_shifted_val(images.pixels, images.split.val).astype(np.float32)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"pixels": shifted})
    labels = np.repeat(images.labels[images.split.val], 10)
    right = probabilities.argmax(axis=1) == labels
    assert evaluation.accuracy == pytest.approx(right.mean())
    assert np.array_equal(np.unpackbits(np.frombuffer(evaluation.right, np.uint8), count=5400), right)
    own = probabilities[np.arange(5400), labels].astype(np.float64)
    assert evaluation.loss == pytest.approx(-np.log(np.clip(own, 2**-23, 1 - 2**-23)).mean())
    assert evaluation.standard_error == pytest.approx(clustered_error(right.reshape(540, 10)))
    assert evaluation.thresholds.sure_confidence is None  # of random answers, a tenth is right
    assert evaluation == evaluate(graph, images)


def test_a_graph_without_logits_has_no_threshold_of_energy_or_distance(images: SplitImages) -> None:
    evaluation = evaluate(graph_answering(3), images)
    assert evaluation.accuracy == pytest.approx((images.labels[images.split.val] == 3).mean())
    assert (evaluation.thresholds.max_energy, evaluation.thresholds.max_distance) == (None, None)


def test_the_standard_error_counts_images_and_not_copies() -> None:
    right = np.random.default_rng(0).random((400, 1)) < 0.8
    copies = np.repeat(right, 10, axis=1)  # ten equal copies say no more than one
    share = right.mean()
    assert clustered_error(copies) == pytest.approx(np.sqrt(share * (1 - share) / 399))
    assert clustered_error(copies[:1]) == 0.0


def test_the_nearest_train_image_is_found() -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 17, (50, 64), dtype=np.uint8)
    images = random.integers(0, 17, (1100, 64), dtype=np.uint8)
    images[3] = train[7]
    differences = images[:, None].astype(float) - train[None]
    np.testing.assert_allclose(nearest(images, train), np.linalg.norm(differences, axis=2).min(axis=1), atol=0.01)


@pytest.fixture(scope="module")
def augmented(digits: Digits) -> bytes:
    """A network trained on warped copies, as a graph; with 64 units, its seed decides how much of val it is sure of."""
    optimizer = OptimizerConfig("sgd", 0.2, momentum=0.9, nesterov=True, weight_decay=1e-5)
    member = digits.member(
        hidden_sizes=(256,),
        activation="relu",
        dropout=0.2,
        optimizer=optimizer,
        epochs=100,
        evaluate_every=100,
        keep="last",
        schedule=CosineConfig(100),
        augmentation=AugmentationConfig(copies=64, strength=1.0),
    )
    bank = Banks().get("digits", digits.pixels, 1.0, 64, CPU)
    (run,) = finish(StackTraining([member._replace(bank=bank)], CPU)).active
    return export.to_onnx(run.result().model, "unit")


def smoothed(noise: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Average each pixel with its neighbours, and stretch each image to 0–16."""
    padded = np.pad(noise.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    neighbours = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    means = np.mean(neighbours, axis=0).reshape(-1, 64)
    low, high = means.min(axis=1, keepdims=True), means.max(axis=1, keepdims=True)
    stretched: np.ndarray[Any, Any] = ((means - low) / (high - low) * 16).round()
    return stretched


def test_an_augmented_network_is_sure_of_digits_and_not_of_noise(images: SplitImages, augmented: bytes) -> None:
    evaluation = evaluate(augmented, images)
    thresholds = evaluation.thresholds
    assert evaluation.accuracy > 0.8
    assert thresholds.sure_confidence is not None
    assert thresholds.max_energy is not None
    assert thresholds.max_distance is not None
    judge = Judge(
        thresholds.sure_confidence,
        thresholds.max_energy,
        thresholds.max_distance,
        TrainImages(images.pixels[images.split.train]),
    )
    session = export.open_session(augmented)

    def judged(pixels: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        pixels = pixels.reshape(-1, 64).astype(np.float32)
        probabilities, logits = session.run(["probabilities", "logits"], {"pixels": pixels})
        return judge.judge(pixels, probabilities, logits), probabilities.argmax(axis=1)

    random = np.random.default_rng(0)
    noise = random.integers(0, 17, (1000, 64))
    for name, pixels in {"noise": noise, "smoothed": smoothed(noise), "dots": 16 * np.eye(64)}.items():
        verdicts, _ = judged(pixels)
        assert (verdicts == SURE).mean() <= 0.01, name
    for level in (0, 7, 16):  # blank, grey and a black square
        assert judged(np.full((1, 64), level))[0].tolist() == [BLANK]
    verdicts, _ = judged(images.val_pixels)
    assert (verdicts == NOT_A_DIGIT).sum() == 5  # of 540
    assert (verdicts == SURE).mean() > 0.85  # eight seeds: 0.909 to 0.937
    verdicts, found = judged(make_shifted_val(images.pixels, images.split.val))
    right = found == np.repeat(images.labels[images.split.val], 10)
    assert right[verdicts == SURE].mean() >= 0.997 - 1e-3  # float32 sums may differ in their last bit
