"""A sweep's trials as CSV, best first, one column per value."""

from __future__ import annotations

import csv
import io
from typing import Any

from app.sweeps.schemas import SweepReport, TrialReport
from app.wording import as_json

_COLUMNS = [name for name in TrialReport.model_fields if name != "parameters"]


def to_csv(report: SweepReport) -> str:
    """Write a header and a row per trial; the searched parameters come last, as JSON unless they are text."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, *report.paths])
    for trial in report.trials or ():
        values = [trial.parameters.get(path, "") for path in report.paths]
        cells = [value if isinstance(value, str) else as_json(value) for value in values]
        writer.writerow([*(_cell(getattr(trial, column)) for column in _COLUMNS), *cells])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return as_json(value) if isinstance(value, bool) else value
