"""Successive halving inside a stack: ends the trials that a sweep's rung rules out."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

from app.database import Database
from app.sweeps.halving import Standing, find_hopeless, read_rung
from app.wording import count
from workers.preparation import PreparedRun
from workers.training import TrainingRun
from workers.training.evaluation import Metrics

logger = logging.getLogger(__name__)


class Halving:
    """Judges the trials of one claim. Those of other stacks that have reached a rung count before they are committed.

    Args:
        database: Has the standings of other claims' trials.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reached: dict[tuple[str, int], dict[str, Standing]] = defaultdict(dict)  # by sweep and epoch: by run id

    def end_hopeless(
        self, by_run: Mapping[TrainingRun, PreparedRun], evaluated: Sequence[tuple[TrainingRun, Metrics]]
    ) -> None:
        """Compare the runs that have just reached a rung with the sweep's others there, and stop those behind."""
        judged: dict[tuple[str, int, int], dict[TrainingRun, Metrics]] = defaultdict(dict)
        for run, metrics in evaluated:
            rungs = by_run[run].rungs
            if rungs is not None and metrics.epoch in rungs.epochs:
                judged[rungs.sweep_id, rungs.reduction, metrics.epoch][run] = metrics
        for (sweep_id, reduction, epoch), runs in judged.items():
            standings = {
                by_run[run].claim.run_id: Standing(metrics.val_accuracy, -metrics.val_loss)
                for run, metrics in runs.items()
            }
            reached = self._reached[sweep_id, epoch]
            with self._database.reading() as session:
                others = read_rung(session, sweep_id, epoch, excluding={*standings, *reached})
            hopeless = find_hopeless(standings, [*others, *reached.values()], reduction)
            reached |= standings
            logger.info("Rung of epoch %d: %d of %s end here", epoch, len(hopeless), count(len(runs), "trial"))
            for run in runs:
                if by_run[run].claim.run_id in hopeless:
                    run.stop()
