"""Schemathesis over the whole OpenAPI document: no 500 and no undeclared response, with keys and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from app.database import Database
from tests.conftest import AddModel
from tests.e2e.conftest import Processes, free_port, wait_for
from workers.preparation import register_datasets

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).parent / "schemathesis.toml"
# Number of random cases per operation, besides those that cover its schema.
NUM_EXAMPLES = int(os.environ.get("FUZZING_EXAMPLES", "10"))
ADMIN, READER = "admin-key-0123456789", "predict-key-0123456789"


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_every_answer_is_declared_and_none_is_unexpected(
    idle_processes: Processes, database: Database, add_model: AddModel, tmp_path: Path
) -> None:
    """Schemathesis uses an admin key; each case is sent again with a predict key, and to an API without keys."""
    add_model()
    register_datasets(database)
    idle_processes.start_api(DIGITLAB_API_KEYS=f"admin:{ADMIN},predict:{READER}")
    open_port = str(free_port())
    keyed_url, open_url = f"http://127.0.0.1:{idle_processes.port}", f"http://127.0.0.1:{open_port}"
    idle_processes.workers.append(idle_processes.start("app.cli", "api", "--port", open_port))  # stopped like one
    wait_for(lambda: httpx2.get(f"{open_url}/health/live").is_success)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"{keyed_url}/openapi.json", "--header", f"Authorization: Bearer {ADMIN}"),
        *("--seed", "1", "--max-examples", str(NUM_EXAMPLES)),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DIGITLAB_KEYED_URL": keyed_url,
        "DIGITLAB_OPEN_URL": open_url,
        "DIGITLAB_READER_KEY": READER,
    }
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    print(finished.stdout, finished.stderr)
    assert finished.returncode == 0
    assert "Selected" in finished.stdout
    assert " 500 " not in idle_processes.log
