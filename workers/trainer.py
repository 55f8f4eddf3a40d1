"""The trainer child: trains what one claim holds after the other, each run from its configuration to its saved model.

Only this process has both a database and torch. It handles the parent's messages at epoch boundaries, and ends when the
parent has gone.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from typing import Concatenate, ParamSpec

import torch
from sqlalchemy.exc import DBAPIError

from app.database import Database, describe_failure
from app.queue import claiming, lifecycle
from app.queue.claiming import Claim, SideBySide, StaleClaim
from app.settings import Settings
from app.tables import RunStatus
from app.wording import count
from workers.backfill import Backfill
from workers.halving import Halving
from workers.messages import (
    EXIT_DATABASE_FAILED,
    Done,
    Evaluate,
    Evaluated,
    FromParent,
    Idle,
    Ready,
    Release,
    Stop,
    Train,
)
from workers.preparation import Preparation, PreparedRun, Unreadable, register_datasets
from workers.recorder import RUNS_PER_TRANSACTION, Recorder
from workers.results import Failed, Outcome, Released, Succeeded
from workers.shared_clocks import Pulse
from workers.training import TrainingLoop, TrainingRun, device, shifted
from workers.training.bank import Banks
from workers.training.engines import choice
from workers.training.ensemble import UnusableMember
from workers.training.loop import warm_up
from workers.training.side_by_side import Evaluations, SideBySideTraining

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")

# Python's default is 700. A large stack makes hundreds of thousands of objects that stay, and each collection looks at
# all of them while every thread waits: 0.4 of 13 s for 1,000 runs. `Trainer.serve` collects between stacks.
NEW_OBJECTS_BEFORE_COLLECTION = 50_000


def preload() -> None:
    """Load the compiled code for the CPU; a process that has called this function can fork trainers."""
    logger.info("Loading the training code (after an installation, it is compiled first: a dozen seconds)")
    torch.set_num_threads(1)  # torch's matrices are small: one thread is faster than several
    warm_up(torch.device("cpu"))
    shifted.warm_up()  # every saved model is evaluated on warped copies


def main(connection: Connection, settings: Settings, pulse: Pulse) -> None:
    """The child's main function: report `Ready`, then train the parent's stacks until it sends `Stop`."""
    gc.freeze()  # modules need no collection; a forked trainer has this from its fork server
    gc.set_threshold(NEW_OBJECTS_BEFORE_COLLECTION)
    database = Database(settings.resolved_database_url)
    try:
        register_datasets(database)
        Trainer(connection, settings, database, pulse).serve()
    except (EOFError, ConnectionError):
        logger.warning("The worker is gone: the trainer ends")
    except DBAPIError as error:
        logger.error("The trainer ends, its runs go on from their checkpoints: %s", describe_failure(error))
        raise SystemExit(EXIT_DATABASE_FAILED) from None
    finally:
        database.close()


@dataclass
class _Stack:
    """A claimed stack, and its training once that is prepared."""

    claims: Sequence[Claim]
    training: TrainingLoop | None = None
    by_run: Mapping[TrainingRun, PreparedRun] = field(default_factory=dict)
    has_failed: bool = False

    @property
    def active(self) -> Sequence[TrainingRun]:
        return () if self.training is None else self.training.active


class Trainer:
    """Trains stacks for one parent, which sends them over a pipe."""

    def __init__(self, connection: Connection, settings: Settings, database: Database, pulse: Pulse) -> None:
        self._connection = connection
        self._settings = settings
        self._database = database
        self._pulse = pulse
        self._devices = device.available_devices()
        self._default_device = self._devices[0] if settings.device == "auto" else settings.device
        self._banks = Banks(on_copy=pulse.mark_progress)
        self._to_release: set[Claim] = set()
        self._is_stopping = False
        self._backfill = Backfill(database)

    def serve(self) -> None:
        """Train the parent's stacks until it sends `Stop`.

        Raises:
            EOFError: The parent has gone.
        """
        if self._default_device not in self._devices:
            raise SystemExit(f"DIGITLAB_DEVICE is {self._default_device}, but this machine has {self._devices}.")
        if self._default_device != "cpu":
            warm_up(torch.device(self._default_device), self._settings.cuda_engine)
        provenance = device.describe(self._default_device)
        ready = Ready(["auto", *self._devices], self._default_device, provenance, self._find_side_by_side())
        self._connection.send(ready)
        while not self._is_stopping:
            message: FromParent = self._connection.recv()
            if isinstance(message, Train):
                self._to_release.clear()
                self._train(message.stacks)
                self._connection.send(Idle())
                gc.collect()  # a failed stack's runs are still in it and refer to it: its memory would stay
            elif isinstance(message, Evaluate):
                self._connection.send(Evaluated(is_complete=self._backfill.run(self._connection.poll)))
            elif isinstance(message, Stop):
                return

    def _find_side_by_side(self) -> SideBySide | None:
        """What stacks may share on the device whose engine trains several in one launch, if there is one."""
        for name in self._devices:
            shared = choice.find_shared_launches(torch.device(name), self._settings.cuda_engine)
            if shared is not None:
                values = ("auto", name) if name == self._default_device else (name,)
                return SideBySide(values, shared.max_runs, shared.max_bytes)
        return None

    def _train(self, stacks: Sequence[Sequence[Claim]]) -> None:
        """Train stacks until all of their runs have ended or been released.

        An `Exception` fails a lone run; the runs of a larger stack are tried again in smaller ones, and so are those of
        several stacks if it may be the fault of each. If the database fails, this process exits with 77, and the
        worker releases the runs at once. If the parent has gone, their leases run out.
        """
        preparation = Preparation(self._database, self._default_device, self._banks, self._settings.cuda_engine)
        recorder = Recorder(self._database, self._settings.commit_seconds, self._say_done)
        claimed = [_Stack(claims) for claims in stacks]
        try:
            try:
                for stack in claimed:
                    self._contain(self._begin, stack, recorder, preparation)
                self._run_epochs([stack for stack in claimed if stack.active], recorder)
            finally:
                recorder.close()
        except (EOFError, ConnectionError, DBAPIError):
            raise
        except Exception as error:
            self._fail([claim for stack in claimed if not stack.has_failed for claim in stack.claims], error)

    def _contain(
        self,
        action: Callable[Concatenate[_Stack, Recorder, Arguments], None],
        stack: _Stack,
        recorder: Recorder,
        *arguments: Arguments.args,
        **options: Arguments.kwargs,
    ) -> None:
        """Do something for a stack; an error ends its runs alone, while others are trained."""
        try:
            action(stack, recorder, *arguments, **options)
        except (EOFError, ConnectionError, DBAPIError):
            raise
        except Exception as error:
            recorder.wait()  # what was recorded before the error counts
            stack.has_failed = True
            for run in list(stack.active):
                run.leave()
            self._fail(stack.claims, error)
            for claim in stack.claims:
                self._say_done(claim)

    def _fail(self, claims: Sequence[Claim], error: Exception) -> None:
        _log_failure(f"A stack of {count(len(claims), 'run')}", error)
        for claim in claims:
            self._give_up(claim, error, is_alone=len(claims) == 1)

    def _begin(self, stack: _Stack, recorder: Recorder, preparation: Preparation) -> None:
        """Read the runs of a stack, and make its training."""
        prepared = self._prepare(preparation, stack.claims)
        if not prepared:
            return
        training, runs = preparation.make_training(prepared)
        stack.training, stack.by_run = training, dict(zip(runs, prepared, strict=True))
        place = preparation.device_of(prepared[0])
        engine, epoch = training.provenance["engine"], runs[0].epoch
        logger.info("Training a stack of %d on %s by %s, from epoch %d", len(runs), place, engine, epoch)
        claims = {run: prepared.claim for run, prepared in stack.by_run.items()}
        recorder.start(claims, {**device.describe(place), **training.provenance})

    def _prepare(self, preparation: Preparation, claims: Sequence[Claim]) -> list[PreparedRun]:
        """Read the runs; a run that cannot be read fails, and the others continue."""
        prepared = []
        for found in preparation.read_all(claims):
            self._pulse.mark_progress()
            if isinstance(found, Unreadable):
                _log_failure(f"Run {found.claim.run_id}", found.error)
                self._give_up(found.claim, found.error, is_alone=True)
                self._say_done(found.claim)
            else:
                prepared.append(found)
        return prepared

    def _say_done(self, claim: Claim) -> None:
        self._pulse.mark_progress()
        self._connection.send(Done(claim))

    def _run_epochs(self, stacks: Sequence[_Stack], recorder: Recorder) -> None:
        """Train stacks side by side; one that is over is recorded, and its runs end, while the others go on."""
        by_training = {stack.training: stack for stack in stacks if stack.training is not None}
        trainings, halving = SideBySideTraining(list(by_training)), Halving(self._database)
        with self._pulse.following(lambda: sum(training.num_done for training in by_training)):
            while any(stack.active for stack in stacks):
                self._pulse.mark_progress()
                self._hear_parent()
                for stack in stacks:
                    self._contain(self._end_runs, stack, recorder)
                active = [run for stack in stacks for run in stack.active]
                if active:
                    recorder.commit_if_due(active)
                for training, train in trainings.advance():
                    self._contain(self._advance, by_training[training], recorder, halving, train)

    def _advance(self, stack: _Stack, recorder: Recorder, halving: Halving, train: Callable[[], Evaluations]) -> None:
        evaluated = train()
        for run, metrics in evaluated:
            recorder.add(run, metrics)
        halving.end_hopeless(stack.by_run, evaluated)

    def _end_runs(self, stack: _Stack, recorder: Recorder) -> None:
        """Record the runs that end here, a transaction at a time: it is written while the next results are computed.

        Those that another worker has claimed leave.
        """
        for run in list(stack.active):
            if recorder.is_lost(run):
                run.leave()
        outcomes = (
            (run, outcome) for run in stack.active if (outcome := self._outcome(run, stack.by_run[run])) is not None
        )
        ended: list[TrainingRun] = []
        while part := dict(islice(outcomes, RUNS_PER_TRANSACTION)):
            self._pulse.mark_progress()
            recorder.end(part)
            ended += part
        for run in ended:
            run.leave()

    def _outcome(self, run: TrainingRun, prepared: PreparedRun) -> Outcome | None:
        """The outcome of a run that ends at this epoch boundary; None: it continues."""
        if run.failure is not None:
            logger.warning("Run %s has diverged: %s", prepared.claim.run_id, run.failure)
            return Failed("diverged", run.failure)
        if run.is_finished:
            result = run.result()
            logger.info("Run %s is trained: val accuracy %.4f", prepared.claim.run_id, result.chosen.val_accuracy)
            return Succeeded(result, prepared.config, prepared.images)
        if self._to_release and prepared.claim in self._to_release:
            logger.info("Releasing run %s at epoch %d, as requested", prepared.claim.run_id, run.epoch)
            return Released()
        return Released() if self._is_stopping else None

    def _hear_parent(self) -> None:
        """Handle the messages that the parent has sent since the last epoch.

        Raises:
            EOFError: The parent has gone.
        """
        while self._connection.poll():
            message: FromParent = self._connection.recv()
            if isinstance(message, Stop):
                self._is_stopping = True
            elif isinstance(message, Release):
                self._to_release.update(message.claims)

    def _give_up(self, claim: Claim, error: Exception, *, is_alone: bool) -> None:
        """Record an error: a run alone fails; of several, each is tried again in a smaller stack."""
        code, detail = "internal_error", f"{type(error).__name__}: {error}"
        if isinstance(error, UnusableMember):
            code, detail = error.code, str(error)
        try:
            with self._database.writing() as session:
                if is_alone:
                    run = claiming.fence(session, claim)
                    lifecycle.end(session, run, RunStatus.FAILED, code=code, detail=detail)
                else:
                    claiming.report_crash(session, claim)
        except StaleClaim:
            logger.warning("Run %s is no longer this worker's; its failure is not recorded", claim.run_id)


def _log_failure(what: str, error: Exception) -> None:
    """Log why something failed; with a traceback, unless the error says everything."""
    logger.error("%s failed: %s", what, error, exc_info=None if isinstance(error, UnusableMember) else error)
