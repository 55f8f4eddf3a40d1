"""Inspections of real runs: they agree with an independent computation; pictures during training; a long history."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from sqlalchemy import insert

from app.database import Database
from app.tables import Metric, Run
from tests.e2e.conftest import Processes, wait_for

# Other tests cover the dependence on the database; here SQLite is enough.
pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

PICTURES = ("curves.png", "curves.svg", "weights.png", "gradients.png")
OF_A_MODEL = ("confusion.png", "mistakes.png")


def predict_independently(processes: Processes, run_id: str) -> tuple[Any, ...]:
    """Compute indices, labels and probabilities on val from the downloads only."""
    client = processes.client
    data = np.load(io.BytesIO(client.get("/datasets/digits/data.npz").content))
    model = onnxruntime.InferenceSession(client.get(f"/runs/{run_id}/model.onnx").content)
    pixels = data["pixels"][data["val"]].reshape(-1, 64).astype(np.float32)
    (probabilities,) = model.run(["probabilities"], {"pixels": pixels})
    return data["val"], data["pixels"], data["labels"][data["val"]], probabilities


@pytest.mark.parametrize("preset", ["dropout-tanh", "forest-baseline"])
def test_confusion_and_mistakes_agree_with_an_independent_computation(processes: Processes, preset: str) -> None:
    processes.start_worker()
    document: dict[str, Any] = {"preset": preset}
    if preset == "dropout-tanh":
        document["training"] = {"epochs": 60}
    run_id = processes.submit(document)
    assert processes.finish(run_id)["status"] == "succeeded"
    indices, pixels, labels, probabilities = predict_independently(processes, run_id)
    predicted = probabilities.argmax(axis=1)

    confusion = processes.client.get(f"/runs/{run_id}/confusion").json()
    assert confusion["counts"] == confusion_matrix(labels, predicted).tolist()
    normalized = confusion_matrix(labels, predicted, normalize="true")
    assert np.allclose(confusion["normalized"], normalized)
    assert confusion["precision"] == pytest.approx(precision_score(labels, predicted, average=None, zero_division=0))
    assert confusion["recall"] == pytest.approx(recall_score(labels, predicted, average=None))
    assert confusion["accuracy"] == pytest.approx((labels == predicted).mean())

    page = processes.client.get(f"/runs/{run_id}/mistakes", params={"limit": 1000}).json()
    wrong = np.flatnonzero(predicted != labels)
    assert page["total"] == len(page["data"]) == len(wrong) > 0
    by_index = {indices[place]: place for place in wrong}
    for mistake in page["data"]:
        place = by_index.pop(mistake["index"])
        assert (mistake["label"], mistake["predicted"]) == (labels[place], predicted[place])
        assert mistake["pixels"] == pixels[mistake["index"]].tolist()
        assert mistake["confidence"] == pytest.approx(probabilities[place].max(), abs=1e-4)
    assert not by_index
    confidences = [mistake["confidence"] for mistake in page["data"]]
    assert confidences == sorted(confidences, reverse=True)
    label = page["data"][0]["label"]
    some = processes.client.get(f"/runs/{run_id}/mistakes", params={"label": label}).json()
    assert some["data"] == [mistake for mistake in page["data"] if mistake["label"] == label]
    first = processes.client.get(f"/runs/{run_id}/mistakes", params={"limit": 2}).json()
    rest = processes.client.get(f"/runs/{run_id}/mistakes", params={"limit": 1000, "after": first["next"]}).json()
    assert first["data"] + rest["data"] == page["data"]


def test_two_runs_share_fix_and_introduce_mistakes(processes: Processes) -> None:
    processes.start_worker()
    ids = [processes.submit({"preset": "dropout-tanh", "seed": seed, "training": {"epochs": 60}}) for seed in (0, 1)]
    other_split = processes.submit({"split": {"seed": 1}, "training": {"epochs": 2}})
    for run_id in (*ids, other_split):
        assert processes.finish(run_id)["status"] == "succeeded"
    wrong = []
    for run_id in ids:
        indices, _, labels, probabilities = predict_independently(processes, run_id)
        wrong.append(set(indices[probabilities.argmax(axis=1) != labels].tolist()))
    compared = processes.client.get(f"/runs/{ids[0]}/mistakes", params={"against": ids[1]}).json()
    found = {name: {each["index"] for each in compared[name]} for name in ("fixed", "introduced", "shared")}
    assert found == {
        "fixed": wrong[1] - wrong[0],
        "introduced": wrong[0] - wrong[1],
        "shared": wrong[0] & wrong[1],
    }
    refused = processes.client.get(f"/runs/{ids[0]}/mistakes", params={"against": other_split})
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/different-split")


def test_pictures_during_training_and_after_it(processes: Processes) -> None:
    processes.start_worker(DIGITLAB_COMMIT_SECONDS="0.1")
    run_id = processes.submit({"preset": "dropout-tanh", "name": "live", "training": {"epochs": 100_000}})
    processes.wait_for_epoch(run_id, 100)
    # The first picture starts the drawing process, which has a lower priority than all others, so it may time out.
    wait_for(lambda: processes.client.get(f"/runs/{run_id}/curves.png").status_code == 200)
    for name in PICTURES:
        picture = processes.client.get(f"/runs/{run_id}/{name}")
        assert picture.status_code == 200, picture.text
        if name.endswith("png"):
            assert picture.content.startswith(b"\x89PNG")
        else:
            root = ET.fromstring(picture.text)
            titles = root.findall("{http://www.w3.org/2000/svg}title")
            assert "live" in (titles[0].text or "")
    layer = processes.client.get(f"/runs/{run_id}/weights", params={"layer": 2}).json()
    assert (np.shape(layer["weights"]), np.shape(layer["biases"])) == ((24, 24), (24,))
    for name in OF_A_MODEL:
        missing = processes.client.get(f"/runs/{run_id}/{name}")
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/saved-model-not-found")
        assert "when it has succeeded" in missing.json()["detail"]
    processes.client.post(f"/runs/{run_id}/cancel")
    assert processes.finish(run_id)["status"] == "cancelled"
    gone = processes.client.get(f"/runs/{run_id}/confusion").json()
    assert "cancelled" in gone["detail"]
    assert "will have none" in gone["detail"]

    done = processes.submit({"preset": "dropout-tanh", "training": {"epochs": 20}})
    processes.finish(done)
    for name in (*PICTURES, *OF_A_MODEL):
        picture = processes.client.get(f"/runs/{done}/{name}")
        assert picture.status_code == 200, picture.text
        unchanged = {"If-None-Match": picture.headers["etag"]}
        assert processes.client.get(f"/runs/{done}/{name}", headers=unchanged).status_code == 304
    known = {name: processes.client.get(f"/runs/{done}/{name}").headers["etag"] for name in OF_A_MODEL}
    processes.client.patch(f"/runs/{done}", json={"name": "renamed"})
    for name, etag in known.items():  # the title has changed
        assert processes.client.get(f"/runs/{done}/{name}", headers={"If-None-Match": etag}).status_code == 200
    both = processes.client.get("/charts/curves.png", params={"run_id": [run_id, done]})
    assert both.content.startswith(b"\x89PNG")


def test_a_history_of_fifty_thousand_epochs_draws_and_pages(processes: Processes, database: Database) -> None:
    run_id = processes.submit({"training": {"epochs": 50_000, "evaluate_every": 1, "batch_size": None}})
    rows = [
        {
            "run_id": run_id,
            "epoch": epoch,
            **dict.fromkeys(("train_loss", "train_eval_loss", "val_loss"), 2.3 / epoch**0.5),
            **dict.fromkeys(("train_accuracy", "train_eval_accuracy", "val_accuracy"), 1 - 0.9 / epoch**0.3),
            "gradient_norms": [1 / epoch] * 3,
            "weight_norms": [1.0] * 3,
            "seconds": epoch / 100,
        }
        for epoch in range(1, 50_001)
    ]
    with database.writing() as session:
        session.execute(insert(Metric), rows)
        run = session.get_one(Run, run_id)
        run.epoch, run.best_epoch, run.best_val_accuracy, run.best_val_loss = 50_000, 50_000, 0.96, 0.01
    for name in ("curves.png", "curves.svg", "gradients.png"):
        picture = processes.client.get(f"/runs/{run_id}/{name}")
        assert picture.status_code == 200, picture.text
        assert len(picture.content) < 2_000_000
    seen, after = 0, "0"
    while after is not None:
        page = processes.client.get(f"/runs/{run_id}/metrics", params={"limit": 10_000, "after": after}).json()
        seen, after = seen + len(page["data"]), page["next"]
    assert seen == 50_000
    thinned = processes.client.get(f"/runs/{run_id}/metrics", params={"points": 200}).json()["data"]
    assert len(thinned) == 200


def test_the_command_line_shows_runs_mistakes_and_sweeps(processes: Processes) -> None:
    processes.start_worker()
    run_id = processes.submit({"preset": "dropout-tanh", "name": "shown", "training": {"epochs": 40}})
    processes.finish(run_id)

    def digitlab(*arguments: str, given: str | None = None) -> str:
        environment = {**os.environ, "DIGITLAB_URL": str(processes.client.base_url), "COLUMNS": "80"}
        command = [sys.executable, "-m", "app.cli", *arguments]
        ended = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert max(map(len, ended.stdout.splitlines())) <= 80
        return ended.stdout

    shown = digitlab("show", run_id)
    assert "shown" in shown
    assert "2,410 parameters in all" in shown
    assert "█" in shown
    total = processes.client.get(f"/runs/{run_id}/mistakes").json()["total"]
    assert f"{total} mistakes" in digitlab("mistakes", run_id)
    search = '{"base": {"training": {"epochs": 5}}, "parameters": {"model.dropout": [0.0, 0.2]}, "repeats": 2}'
    report = digitlab("sweep", "-", given=search)
    assert "dropout" in report
    assert "Best: point" in report
    sweep_id = processes.client.get("/sweeps").json()["data"][0]["id"]
    assert digitlab("report", sweep_id) == report
