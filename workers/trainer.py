"""The trainer child: trains one run after the other, each from its configuration to its saved model.

The only place where database meets torch. It obeys the parent at epoch boundaries; a parent that is gone ends it.
"""

from __future__ import annotations

import logging
import signal
from enum import Enum, auto
from multiprocessing.connection import Connection

import torch
from sqlalchemy.exc import DBAPIError

from app.database import Database
from app.logs import configure_logging
from app.runs import queue
from app.runs.queue import Claim, StaleClaim
from app.settings import Settings
from app.tables import RunStatus
from workers.messages import Done, EndRun, FromParent, Ready, Stop, Train
from workers.preparation import Prepared, prepare, register_datasets
from workers.recorder import Recorder
from workers.training import device, export
from workers.training.export import ExportMismatch
from workers.training.result import Diverged

logger = logging.getLogger(__name__)


class Wish(Enum):
    """What the parent wants of the run in training."""

    GO_ON = auto()
    END_RUN = auto()
    STOP = auto()


def main(connection: Connection, settings: Settings) -> None:
    """The child's life: say that it is ready, then train what the parent sends, until told to stop."""
    # Ctrl-C and a supervisor's SIGTERM reach the whole process group; the parent alone decides what follows.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    configure_logging("trainer")
    torch.set_num_threads(1)  # the matrices are small: one thread is faster than several
    database = Database(settings.resolved_database_url)
    try:
        register_datasets(database)
        Trainer(connection, settings, database).serve()
    except (EOFError, BrokenPipeError):
        logger.warning("The worker is gone; the trainer ends.")
    finally:
        database.close()


class Trainer:
    """Serves one parent over one pipe."""

    def __init__(self, connection: Connection, settings: Settings, database: Database) -> None:
        self._connection = connection
        self._settings = settings
        self._database = database
        self._devices = device.available_devices()
        self._default_device = self._devices[0] if settings.device == "auto" else settings.device

    def serve(self) -> None:
        """Train what the parent sends.

        Raises:
            EOFError: The parent is gone.
        """
        if self._default_device not in self._devices:
            raise SystemExit(f"DIGITLAB_DEVICE is {self._default_device}, but this machine has {self._devices}.")
        provenance = device.describe(self._default_device)
        self._connection.send(Ready(["auto", *self._devices], self._default_device, provenance))
        while True:
            message: FromParent = self._connection.recv()
            if isinstance(message, Stop):
                return
            if isinstance(message, Train):
                wish = self._train(message.claim)
                self._connection.send(Done(message.claim))
                if wish is Wish.STOP:
                    return

    def _train(self, claim: Claim) -> Wish:
        """Train a run until it ends or the parent wants something else.

        Being cancelled is a state; an `Exception` fails the run and the child lives on; when the database or the parent
        is gone, the process ends, and the lease brings the run back.
        """
        try:
            prepared = prepare(self._database, claim.run_id, self._default_device)
            recorder = Recorder(self._database, claim, prepared.training, self._settings.commit_seconds)
            recorder.start(device.describe(prepared.device))
            return self._run_epochs(claim, prepared, recorder)
        except StaleClaim:
            logger.warning("Run %s is no longer this worker's; letting go of it", claim.run_id)
        except (EOFError, DBAPIError):
            raise
        except Exception as error:
            logger.exception("Run %s failed", claim.run_id)
            self._fail(claim, f"{type(error).__name__}: {error}")
        return Wish.GO_ON

    def _run_epochs(self, claim: Claim, prepared: Prepared, recorder: Recorder) -> Wish:
        training = prepared.training
        kind, epochs = prepared.config.model.kind, prepared.config.epochs
        logger.info("Run %s: %s on %s, epoch %d of %d", claim.run_id, kind, prepared.device, training.epoch, epochs)
        try:
            while not training.is_finished:
                metrics = training.run_epoch()
                if metrics is not None:
                    recorder.add(metrics)
                wish = self._ask_parent(claim)
                if wish is Wish.END_RUN:
                    recorder.cancel()
                    return wish
                if wish is Wish.STOP:
                    recorder.release()
                    return wish
                recorder.commit_if_due()
            result = training.result()
            model = export.to_onnx(result.model, prepared.config.scaling)
            export.check(model, prepared.data.val_pixels, result.val_probabilities)
        except Diverged as error:
            recorder.fail("diverged", str(error))
        except ExportMismatch as error:
            recorder.fail("export_mismatch", str(error))
        else:
            recorder.succeed(result, model, prepared.config)
            logger.info("Run %s succeeded: val accuracy %.4f", claim.run_id, result.chosen.val_accuracy)
        return Wish.GO_ON

    def _ask_parent(self, claim: Claim) -> Wish:
        """What the parent has said since the last epoch.

        Raises:
            EOFError: The parent is gone.
        """
        wish = Wish.GO_ON
        while self._connection.poll():
            message: FromParent = self._connection.recv()
            if isinstance(message, Stop):
                return Wish.STOP
            if isinstance(message, EndRun) and message.claim == claim:  # else: of a run that ended meanwhile
                wish = Wish.END_RUN
        return wish

    def _fail(self, claim: Claim, detail: str) -> None:
        try:
            with self._database.writing() as session:
                queue.end(queue.fence(session, claim), RunStatus.FAILED, code="internal_error", detail=detail)
        except StaleClaim:
            logger.warning("Run %s is no longer this worker's; its failure is not recorded", claim.run_id)
