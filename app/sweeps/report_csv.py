"""A sweep's trials as CSV, best first, a column a number."""

from __future__ import annotations

import csv
import io
import json

from app.sweeps.schemas import SweepReport, TrialReport

_COLUMNS = [name for name in TrialReport.model_fields if name != "parameters"]


def to_csv(report: SweepReport) -> str:
    """The trials with a header; the searched parameters follow by their paths, as JSON where they are no numbers."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, *report.paths])
    for trial in report.trials:
        values = [trial.parameters.get(path, "") for path in report.paths]
        cells = [value if isinstance(value, int | float | str) else json.dumps(value) for value in values]
        writer.writerow([*(getattr(trial, column) for column in _COLUMNS), *cells])
    return text.getvalue()
