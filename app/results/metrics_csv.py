"""A run's metrics as CSV, one column per value."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from app.results.repository import CURVES
from app.tables import Metric

_COLUMNS = (*CURVES, "seconds")


def to_csv(metrics: Sequence[Metric]) -> str:
    """Write a header and a row per epoch; `gradient_norm_1`, …, `weight_norm_1`, …, one per layer, come last."""
    num_layers = len(metrics[0].weight_norms or []) if metrics else 0
    norms = [f"{kind}_norm_{layer + 1}" for kind in ("gradient", "weight") for layer in range(num_layers)]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*_COLUMNS, *norms])
    for metric in metrics:
        values = [getattr(metric, column) for column in _COLUMNS]
        writer.writerow(values + (metric.gradient_norms or []) + (metric.weight_norms or []))
    return text.getvalue()
