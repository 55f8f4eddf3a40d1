"""Prometheus metrics of the requests to this process. `app.monitoring` has the gauges of the database.

Several API processes write their metrics to files in one folder, and each of the processes can serve the sums
(https://prometheus.github.io/client_python/multiprocess/).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from prometheus_client import Counter, Histogram

NUM_DIGITS = 10
MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_REQUEST_SECONDS = Histogram(
    "digitlab_request_duration_seconds",
    "Seconds until a request was answered.",
    ["method", "route", "status"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_PREDICTIONS = Counter("digitlab_predictions_total", "Images classified, by the digit answered.", ["digit"])
_BY_DIGIT = [_PREDICTIONS.labels(str(digit)) for digit in range(NUM_DIGITS)]

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Record a completed request.

    Args:
        method: HTTP method as the client sent it.
        route: Path as the API declares it, with `{run_id}` and the like; never the path that the client sent.
        status: HTTP status of the response; 499 if the client disconnected before it.
        seconds: Time from the request's head to the end of the response.
    """
    _request_seconds(method if method in _METHODS else "other", route, status).observe(seconds)


@cache  # `labels` takes a lock and a few microseconds; all three arguments have few values
def _request_seconds(method: str, route: str, status: int) -> Histogram:
    return _REQUEST_SECONDS.labels(method, route, str(status))


def count_predictions(digits: npt.NDArray[np.int64]) -> None:
    """Count the predicted digits of N images."""
    if len(digits) == 1:
        _BY_DIGIT[digits[0]].inc()
        return
    for digit, number in enumerate(np.bincount(digits, minlength=NUM_DIGITS).tolist()):
        if number:
            _BY_DIGIT[digit].inc(number)
