"""Gauges that are read from the database once per scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import Database, describe_failure, utc_now
from app.monitoring import repository
from app.tables import RunStatus
from app.worker_registry.repository import WorkerWatch

logger = logging.getLogger(__name__)


class DatabaseGauges(Collector):
    """Gauges read from the database at each scrape; if that fails, `digitlab_database_up` is 0 and the only gauge.

    Args:
        database: Database to read.
        watch: Tells which workers are alive.
    """

    def __init__(self, database: Database, watch: WorkerWatch) -> None:
        self._database = database
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        try:
            with self._database.reading() as session:
                gauges = self._read(session)
        except SQLAlchemyError as error:
            logger.error("No gauges: %s", describe_failure(error))
            gauges = []
        yield _gauge("digitlab_database_up", "Whether the database answers.", float(bool(gauges)))
        yield from gauges

    def _read(self, session: Session) -> list[Metric]:
        runs = repository.count_runs(session)
        by_status = GaugeMetricFamily("digitlab_runs", "Runs by state.", labels=["status"])
        for status, number in runs.by_status.items():
            by_status.add_metric([status.value], number)
        oldest = runs.oldest_queued_at
        age = 0.0 if oldest is None else max(0.0, (utc_now() - oldest).total_seconds())
        accuracy = GaugeMetricFamily("digitlab_champion_accuracy", "Of the champion's saved model.", labels=["split"])
        if (champion := repository.get_champion(session)) is not None:
            accuracy.add_metric(["val"], champion.val_accuracy)
            if champion.shifted_accuracy is not None:
                accuracy.add_metric(["shifted_val"], champion.shifted_accuracy)
        num_workers = len(self._watch.list_alive(session))
        num_queued = runs.by_status[RunStatus.QUEUED]
        return [
            by_status,
            _gauge("digitlab_queue_length", "Runs that wait to be trained.", num_queued),
            _gauge("digitlab_queue_oldest_age_seconds", "Seconds since the oldest of them was submitted.", age),
            _gauge("digitlab_epochs_per_second", "Of all runs in training together.", runs.epochs_per_second),
            _gauge("digitlab_workers", "Workers that are alive.", num_workers),
            accuracy,
        ]


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
