"""The benchmark for GPUs runs on emulated kernels, so that eight minutes on a GPU are not spent on mending it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.run_config import RunConfig, complete
from app.sweeps.schemas import SweepSubmission
from app.sweeps.search_space import expand
from tests.benchmarks.gpu import RATES, SWEEP, WIDTHS
from tests.workers.training.engines.emulation import compiler

ROOT = Path(__file__).parents[4]


@pytest.mark.skipif("CI" not in os.environ, reason="takes half a minute; CI=true runs it")
def test_the_benchmark_runs_and_writes_its_tables(tmp_path: Path) -> None:
    compiler()
    parts = ["versions", "correctness", "grid", "profile"]
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--emulated", "--out", str(tmp_path), "--only", *parts]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout, done.stdout
    told = (tmp_path / "gpu.md").read_text()
    assert [line for line in told.splitlines() if line.startswith("### ")] == [f"### {part}" for part in parts]
    assert "| 12-12 | float64 | 0e+00 | 0e+00 | 0e+00 |" in told
    assert "- skipped: there are no cycles to count" in told


def test_the_sweep_that_it_sends_is_valid() -> None:
    base = RunConfig.model_validate(complete(RunConfig().model_dump(mode="json"), SWEEP["base"]))
    points = expand(SweepSubmission.model_validate(SWEEP), base, max_points=1000)
    assert len(points) == len(WIDTHS) * 2 * len(RATES) == 48
    assert {point.config.training.epochs for point in points if point.config.training} == {800}
