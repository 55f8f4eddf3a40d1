"""Schemathesis over the whole OpenAPI document: no 500, no undeclared answer, with keys and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.database import Database
from tests.conftest import AddModel
from tests.e2e.conftest import Processes
from workers.preparation import register_datasets

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).parent / "schemathesis.toml"
ADMIN, READER = "admin-key-0123456789", "predict-key-0123456789"


# Each run has a seed of its own: the same inputs would reach the same code with a key as without.
@pytest.mark.parametrize(
    ("key", "seed", "num_examples"),
    [(None, 1, 40), (ADMIN, 2, 20), (READER, 3, 20)],
    ids=["without keys", "admin key", "predict key"],
)
def test_every_answer_is_declared_and_none_is_unexpected(
    idle_processes: Processes,
    database: Database,
    add_model: AddModel,
    tmp_path: Path,
    key: str | None,
    seed: int,
    num_examples: int,
) -> None:
    add_model()
    register_datasets(database)
    idle_processes.start_api(DIGITLAB_API_KEYS="" if key is None else f"admin:{ADMIN},predict:{READER}")
    command = [
        *(("nice",) if shutil.which("nice") else ()),  # it is busy for minutes, beside tests that wait for pictures
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"http://127.0.0.1:{idle_processes.port}/openapi.json"),
        *("--seed", str(seed), "--max-examples", str(num_examples)),
        *(() if key is None else ("--header", f"Authorization: Bearer {key}")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    print(finished.stdout, finished.stderr)
    assert finished.returncode == 0
    assert "Selected" in finished.stdout
    assert " 500 " not in idle_processes.log
