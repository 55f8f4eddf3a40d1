"""The tables, one in each file. Queries live in the features' repositories."""

from app.tables.base import Table, new_id
from app.tables.checkpoint import Checkpoint
from app.tables.dataset import Dataset
from app.tables.deletion import INCLUDE_DELETED
from app.tables.evaluation import Evaluation
from app.tables.event import LAST_OF_A_RUN, Event, EventCounter, EventType
from app.tables.metric import Metric
from app.tables.promotion import Promotion, PromotionReason
from app.tables.ranking import RankedBy, Ranking
from app.tables.restart import Restart
from app.tables.run import Run, RunStatus
from app.tables.saved_model import SavedModel
from app.tables.snapshot import Snapshot
from app.tables.split import Split
from app.tables.sweep import Sweep
from app.tables.worker import Worker

__all__ = [
    "INCLUDE_DELETED",
    "LAST_OF_A_RUN",
    "Checkpoint",
    "Dataset",
    "Evaluation",
    "Event",
    "EventCounter",
    "EventType",
    "Metric",
    "Promotion",
    "PromotionReason",
    "RankedBy",
    "Ranking",
    "Restart",
    "Run",
    "RunStatus",
    "SavedModel",
    "Snapshot",
    "Split",
    "Sweep",
    "Table",
    "Worker",
    "new_id",
]
