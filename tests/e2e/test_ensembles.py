"""An ensemble with real processes: its members are trained, combined, predicted with, and deleted."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.e2e.conftest import Processes, wait_for

# Other tests cover the dependence on the database; here SQLite is enough.
pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def test_an_ensemble_predicts_the_mean_of_its_members_and_outlives_them(processes: Processes) -> None:
    client = processes.client
    processes.start_worker()
    networks = [
        {"seed": 0, "scaling": "byte", "model": {"hidden_sizes": [12], "activation": "tanh"}},
        {"seed": 1, "model": {"hidden_sizes": [16, 8]}},
        {"seed": 2, "model": {"hidden_sizes": []}},
    ]
    members = [processes.submit({**network, "training": {"epochs": 2}}) for network in networks]
    assert [processes.finish(run_id)["status"] for run_id in members] == ["succeeded"] * 3
    of_members = [client.get(f"/runs/{run_id}").json() for run_id in members]

    url, options = str(client.base_url), [option for run_id in members for option in ("--member", run_id)]
    printed = CliRunner().invoke(cli, ["train", *options, "--name", "all three", "--url", url])
    assert printed.exit_code == 0, printed.output
    (run,) = client.get("/runs", params={"model_kind": "ensemble"}).json()["data"]
    run_id = run["id"]
    assert f"{run_id}: best val accuracy {run['best']['val_accuracy']:.2%} at epoch 1" in printed.output
    assert (run["status"], run["name"]) == ("succeeded", "all three")
    assert run["num_parameters"] == sum(each["num_parameters"] for each in of_members)
    assert run["config"]["split"] == of_members[0]["config"]["split"]
    shown = CliRunner().invoke(cli, ["show", run_id, "--url", url])
    assert shown.exit_code == 0, shown.output
    assert all(f"run {member}" in shown.output for member in members)

    samples = client.get("/datasets/digits/samples", params={"split": "val", "limit": 40}).json()["data"]
    images = np.array([sample["pixels"] for sample in samples])
    pixels = images.reshape(-1, 64).astype(np.float32)
    graphs = [client.get(f"/runs/{member}/model.onnx").content for member in members]
    answers = [onnxruntime.InferenceSession(graph).run(["probabilities"], {"pixels": pixels})[0] for graph in graphs]
    for member in members:
        assert client.delete(f"/runs/{member}").status_code == 204
    body = {"instances": images.tolist()}
    answer = client.post("/predict", params={"run_id": run_id}, json=body).json()
    got = np.array([prediction["probabilities"] for prediction in answer["predictions"]])
    np.testing.assert_allclose(got, np.mean(answers, axis=0), atol=1e-5)
    wait_for(lambda: client.post("/predict", json=body).json()["model"]["run_id"] == run_id)
    assert client.get(f"/runs/{run_id}/curves.png").content.startswith(b"\x89PNG")
    assert client.get(f"/runs/{run_id}/mistakes").status_code == 200
    types = [event["type"] for event in processes.events(run_id)]
    assert types[:4] == ["queued", "started", "metric", "succeeded"]
    processes.stop()
