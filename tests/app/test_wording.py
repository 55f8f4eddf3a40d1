"""Texts for users: they use JSON's words, the right tense, and the right singular or plural."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
from typing import Any

import pytest

from app.charts.effects import MAX_PANELS, _explanation
from app.charts.findings import Findings
from app.charts.sweep import _facts
from app.results.layers import to_text
from app.results.schemas import Summary
from app.run_config import RunConfig
from app.sweeps.report_csv import to_csv
from app.sweeps.schemas import SweepReport
from app.tables import RunStatus
from tests.conftest import AddModel, AddRun, TestClient

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

MESSAGES: list[tuple[str, str, str, str]] = [
    ("/runs", "[]", "#", "Input should be an object; got an array"),
    ("/runs", "null", "#", "Input should be an object; got null"),
    ("/runs", '{"seed": null}', "#/seed", "Input should be a valid integer; got null"),
    ("/runs", '{"seed": true}', "#/seed", "Input should be a valid integer; got true"),
    ("/runs", '{"seed": "3"}', "#/seed", 'Input should be a valid integer; got "3"'),
    ("/runs", '{"seed": [3]}', "#/seed", "Input should be a valid integer; got an array"),
    ("/runs", '{"name": {}}', "#/name", "Input should be a valid string; got an object"),
    ("/runs", '{"split": false}', "#/split", "Input should be an object; got false"),
    ("/runs", '{"model": []}', "#/model", "Input should be an object; got an array"),
    (
        "/runs",
        '{"model": {"kind": "x"}}',
        "#/model",
        'The field "kind" should be "mlp", "random_forest" or "ensemble"; got "x"',
    ),
    ("/runs", '{"model": {"kind": null}}', "#/model", "; got null"),
    ("/runs", '{"model": {"kind": [1]}}', "#/model", "; got an array"),
    ("/sweeps", '{"search": {"kind": true}}', "#/search", 'should be "grid", "random" or "list"; got true'),
    ("/sweeps", '{"search": {}}', "#/search", 'The field "kind" is required'),
    ("/runs", '{"model": {"hidden_sizes": {}}}', "#/model/hidden_sizes", "Input should be an array; got an object"),
    (
        "/runs",
        '{"model": {"hidden_sizes": [1, 1, 1, 1, 1, 1, 1, 1, 1]}}',
        "#/model/hidden_sizes",
        "Array should have at most 8 items, not 9",
    ),
    ("/runs", '{"tags": []}', "#/tags", "Input should be an object; got an array"),
    (
        "/runs",
        json.dumps({"tags": {f"t{number}": "" for number in range(33)}}),
        "#/tags",
        "Object should have at most 32 items, not 33",
    ),
    (
        "/runs",
        '{"model": {"activation": "gelu"}}',
        "#/model/activation",
        'Input should be "sigmoid", "tanh" or "relu"; got "gelu"',
    ),
    ("/runs", '{"split": {"val_size": NaN}}', "#/split/val_size", "Input should be a finite number; got NaN"),
    ("/runs", '{"split": {"val_size": -1e999}}', "#/split/val_size", "Input should be a finite number; got -Infinity"),
    ("/sweeps", '{"points": {}}', "#/points", "Input should be an array; got an object"),
    (
        "/sweeps",
        '{"search": {"kind": "random", "trials": 2}, "parameters": {"seed": {"low": 1, "high": 5, "integer": 1}}}',
        "#/parameters/seed/integer",
        "Input should be a valid boolean; got 1",
    ),
    ("/sweeps", '{"parameters": {"training.epochs": [null]}}', "#/parameters/training.epochs/0", "got null"),
    ("/runs", json.dumps({"seed": "x" * 1000}), "#/seed", 'got "' + "x" * 78 + "…"),
    ("/predict", "[]", "#", "got an array of 0"),
    ("/predict", '{"instances": {}}', "#/instances", "got an object"),
    ("/predict", '{"instances": [[[]]]}', "#/instances/0", "An image is an array of 8 rows; got an array of 1"),
    ("/predict", '{"instances": [[[NaN,0,0,0,0,0,0,0],[],[],[],[],[],[],[]]]}', "#/instances/0/0/0", "got NaN"),
]


@on_sqlite
def test_a_message_speaks_json(client: TestClient, add_model: AddModel) -> None:
    run_id = add_model()
    for path, body, pointer, detail in MESSAGES:
        query = f"?run_id={run_id}" if path == "/predict" else ""
        response = client.post(path + query, content=body, headers={"Content-Type": "application/json"})
        (found,) = response.json()["errors"]
        assert (body, response.status_code, found["pointer"]) == (body, 422, pointer)
        assert found["detail"].endswith(detail)
        assert not re.search(r"\b(None|True|False|nan|inf|dictionary|dict|valid list|tuple|str)\b|'", found["detail"])


@on_sqlite
def test_a_query_is_quoted_as_json(client: TestClient) -> None:
    (found,) = client.get("/runs", params={"status": "'\x00", "limit": 50}).json()["errors"]
    assert found["detail"].endswith('; got "\'\\u0000"')


@on_sqlite
def test_one_is_singular_and_what_is_over_has_no_yet(client: TestClient, add_run: AddRun) -> None:
    forest = RunConfig.model_validate({"model": {"kind": "random_forest", "n_estimators": 1, "max_depth": 1}})
    run_id = add_run(forest, status=RunStatus.FAILED)
    summary = client.get(f"/runs/{run_id}/summary").json()
    assert summary["layers"][0]["note"] == "1 tree, at most 1 deep"
    text = to_text(Summary(**summary | {"size_bytes": 1}))
    assert f"run {run_id}, failed: no epoch was evaluated" in text
    assert "parameters: not known, 1 byte\n" in text
    waiting = to_text(Summary(**summary | {"status": "running"}))
    assert "no epoch has been evaluated yet" in waiting
    assert "parameters: not known yet\n" in waiting
    network = add_run(status=RunStatus.FAILED)
    assert "the run has failed" in client.get(f"/runs/{network}/checkpoints/best").json()["detail"]


class FakeClient:
    """Responds to every request with the documents that the test has set."""

    answers: dict[str, Any]

    def __init__(self, _url: str) -> None:
        pass

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, _method: str, *path: str, **_options: Any) -> Any:
        return self.answers[path[-1].rpartition("/")[2]]


@pytest.fixture
def report() -> SweepReport:
    point = {
        "rank": 1,
        "point_number": 0,
        "parameters": {"training.batch_size": None},
        "num_trials": 1,
        "num_succeeded": 1,
        "mean_val_accuracy": 0.9,
        "standard_error": None,
        "min_val_accuracy": 0.9,
        "max_val_accuracy": 0.9,
        "mean_epochs_to_plateau": 1,
        "mean_seconds_to_plateau": 1,
        "num_parameters": 1,
        "is_within_noise": True,
        "num_full_train_accuracy": 1,
        "mean_shifted_accuracy": None,
    }
    noise = {"kind": "images", "best_point": 0, "standard_error": 0.1, "num_within_noise": 1}
    trial = dict.fromkeys(("rank", "fold", "error", "val_accuracy", "val_loss", "train_accuracy", "best_epoch"))
    trial |= dict.fromkeys(("epochs_to_plateau", "seconds_to_plateau", "epochs_to_full_train_accuracy"))
    trial |= dict.fromkeys(("shifted_accuracy", "shifted_standard_error"))
    trial |= {"run_id": "r", "trial_number": 0, "point_number": 0, "parameters": point["parameters"], "seed": 0}
    trial |= {"status": "failed", "epoch": 1, "is_ended_early": True, "num_parameters": 1}
    return SweepReport.model_validate(
        {
            "sweep_id": "s",
            "name": "",
            "status": "failed",
            "paths": ["training.batch_size"],
            "answer": "The only point so far.",
            "trials": [trial],
            "points": [point],
            "noise": noise | {"smallest_point": 0, "quickest_point": 0},
            "effects": [],
            "pareto": [],
            "choice": None,
        }
    )


def test_the_command_line_counts_and_speaks_json(
    report: SweepReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A `from` import would find the package's commands, which have the names of these modules.
    sweep, inspect = (importlib.import_module(f"app.cli.{name}") for name in ("sweep", "inspect"))
    for module in (sweep, inspect):
        monkeypatch.setattr(module, "Client", FakeClient)
    FakeClient.answers = {"report": report.model_dump()}
    sweep.show_report("", "s")
    said = capsys.readouterr().out
    for part in ("failed, 1 trial\n", "null", "batch_size null; 1 parameter)", "noise of it: 1 point.", "by 1 trial."):
        assert part in said
    FakeClient.answers["report"] |= {"noise": None, "answer": "No trial has succeeded."}
    sweep.show_report("", "s")
    assert capsys.readouterr().out == "Sweep s: failed, 1 trial\nNo trial has succeeded.\n"
    FakeClient.answers = {
        "r": {"name": "", "id": "r", "status": "failed", "error": None, "num_parameters": 1, "best": None, "hint": None}
        | {"progress": {"epoch": 0, "epochs": 1}},
        "summary": {"layers": []},
        "metrics": {"data": []},
        "mistakes": {"total": 1, "data": [], "has_more": False},
    }
    inspect.show("", "r")
    said = capsys.readouterr().out
    assert "1 parameter in all" in said
    assert "No epoch was evaluated." in said
    inspect.show_mistakes("", "r", 1)
    assert capsys.readouterr().out.startswith("1 mistake on val")


def test_tables_and_pictures_count_and_speak_json(report: SweepReport) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv(report)))
    assert (row["is_ended_early"], row["fold"], row["training.batch_size"]) == ("true", "", "null")
    findings = Findings.of({"report": report.model_dump(), "curves": {}})
    assert "1 point · 1 trial" in _facts(findings)[0]
    assert "1 weaker parameter is left out" in _explanation(findings, MAX_PANELS + 1)
