"""The API process: creating the application imports neither torch nor torchvision nor scikit-learn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
from app.main import create_app
from app.settings import Settings
create_app(Settings(data_dir=Path(sys.argv[1])))
print(sorted({"torch", "torchvision", "sklearn"} & set(sys.modules)))
"""


def test_the_application_is_made_without_torch_and_scikit_learn(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
