"""The worker's parent process: claims runs, sends them to its trainer child, and renews their leases.

It stays light, so that it reacts at once whatever the child is doing; only the trainer and the fork server load torch.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import socket
import time
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from app import lifeline
from app.database import NEWEST_REVISION, Database, current_revision, describe_failure
from app.queue.claiming import Claim
from app.settings import Settings
from app.tables import new_id
from app.worker_registry import repository as registry
from app.worker_registry.repository import WorkerInfo
from workers.fork_server import StartMethod
from workers.housekeeping import Housekeeping
from workers.lease import Lease
from workers.messages import (
    EXIT_DATABASE_FAILED,
    Done,
    Evaluate,
    Evaluated,
    FromChild,
    Idle,
    Ready,
    Release,
    Stop,
    Train,
)
from workers.shared_clocks import Pulse
from workers.trainer_process import TrainerProcess, make_fork_server
from workers.watchdog import watch_child

logger = logging.getLogger(__name__)

FIRST_RESTART_SECONDS = 0.5
LAST_RESTART_SECONDS = 30.0
DATABASE_RETRY_SECONDS = 1.0
STOP_SECONDS = 15.0
EVALUATION_SECONDS = 60.0  # an idle trainer looks so often for models that miss their evaluation


class Worker:
    """One worker: trains stack after stack until a signal stops it.

    Args:
        settings: The service's settings.
        start_method: The start method of its fork server; `fork` only if this process has loaded everything already.
    """

    def __init__(self, settings: Settings, start_method: StartMethod = "spawn") -> None:
        self._settings = settings
        self._database = Database(settings.resolved_database_url)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._pulse = Pulse(multiprocessing.get_context("spawn"))
        self._fork_server = make_fork_server(settings, self._pulse, start_method)
        self._lease = Lease(self._database, settings, self.name, self._pulse)
        self._housekeeping = Housekeeping(self._database, settings)
        self._child: TrainerProcess | None = None
        self._is_training = False
        self._next_evaluation = -math.inf
        self._leaving: set[Claim] = set()  # those that the child has been told to release
        self._is_stopping = False
        self._restart_seconds = FIRST_RESTART_SECONDS

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then commit and release the runs in training."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._wait_for_database()
        try:
            if not self._is_stopping:
                self._work()
        finally:
            self._unregister()
        logger.info("Worker %s has stopped", self.name)

    def _work(self) -> None:
        logger.info("Worker %s is starting its trainer", self.name)
        child = self._child = self._start_trainer()
        watch_child(self._pulse, self._kill_child)
        try:
            while not self._is_stopping:
                child = self._child = self._run_once(child)
            self._stop(child)
        finally:
            child.end()

    def _start_trainer(self) -> TrainerProcess:
        return TrainerProcess(self._settings, self._pulse, self._fork_server)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._is_stopping = True

    def _kill_child(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _wait_for_database(self) -> None:
        """Wait until the database has started and is migrated; each problem is logged once."""
        said = None
        while not self._is_stopping:
            problem = self._try_database()
            if problem is None:
                return
            if problem != said:
                logger.error("Waiting: %s", problem)
            said = problem
            time.sleep(DATABASE_RETRY_SECONDS)

    def _try_database(self) -> str | None:
        """Register this worker in the database; returns the problem that prevents it, or None."""
        try:
            with self._database.writing() as session:
                revision = current_revision(session)
                if revision != NEWEST_REVISION:
                    return f"The database is at migration {revision}, not {NEWEST_REVISION} (digitlab migrate)."
                registry.beat(session, self._info(None))
        except SQLAlchemyError as error:
            return describe_failure(error)
        return None

    def _info(self, ready: Ready | None) -> WorkerInfo:
        info = WorkerInfo(self.name, socket.gethostname(), os.getpid())
        return replace(info, device=ready.device, provenance=ready.provenance, devices=ready.devices) if ready else info

    def _run_once(self, child: TrainerProcess) -> TrainerProcess:
        """One turn of the main loop; returns the child, or the one that replaced it."""
        messages = child.receive(self._settings.poll_seconds)
        if messages is None:
            return self._replace(child)
        for message in messages:
            self._handle_message(child, message)
        self._send_heartbeat(child)
        self._end_if_stuck(child)
        self._housekeeping.clean_if_due()
        if child.ready is not None and not self._is_training and not self._is_stopping:
            self._claim_stacks(child, child.ready)
            if not self._is_training:
                self._evaluate_if_due(child)
        return child

    def _handle_message(self, child: TrainerProcess, message: FromChild) -> None:
        if isinstance(message, Ready):
            child.ready = message
            seconds = time.monotonic() - child.started_at
            logger.info("Trainer is ready on %s after %.1f s", message.device, seconds)
            lifeline.announce("ready")
        elif isinstance(message, Done):
            self._lease.remove(message.claim)
            self._restart_seconds = FIRST_RESTART_SECONDS
        elif isinstance(message, Idle):
            self._clear_claims()
        elif isinstance(message, Evaluated):
            self._next_evaluation = time.monotonic() + (EVALUATION_SECONDS if message.is_complete else 0.0)

    def _send_heartbeat(self, child: TrainerProcess) -> None:
        to_release = self._lease.beat_if_due(self._info(child.ready))
        if to_release - self._leaving:
            child.send(Release(list(to_release - self._leaving)))
            self._leaving |= to_release

    def _end_if_stuck(self, child: TrainerProcess) -> None:
        """Kill a child that trains but makes no progress; the next turn replaces it."""
        seconds = self._pulse.seconds_without_progress
        if self._is_training and seconds > self._settings.stall_seconds:
            logger.error("The trainer has made no progress for %.0f s: it is killed", seconds)
            child.kill()
            child.join()

    def _claim_stacks(self, child: TrainerProcess, ready: Ready) -> None:
        stacks = self._lease.claim_stacks(ready.devices, ready.side_by_side)
        if stacks:
            self._is_training = True
            self._pulse.mark_progress()
            child.send(Train(stacks))

    def _evaluate_if_due(self, child: TrainerProcess) -> None:
        """Have an idle child evaluate the saved models of earlier versions: now, and from time to time.

        It stops at the next message, so that a run waits for the evaluation of one model at most.
        """
        if time.monotonic() >= self._next_evaluation:
            self._next_evaluation = math.inf  # until the child has answered
            child.send(Evaluate())

    def _clear_claims(self) -> None:
        self._lease.clear()
        self._leaving, self._is_training = set(), False

    def _replace(self, child: TrainerProcess) -> TrainerProcess:
        """Start another trainer in the place of one that died.

        If the trainer died before it was ready, or because the database failed, the worker first waits, each time
        twice as long.
        """
        child.join(1.0)  # it may still be ending: its own exit code is reported, not that of a kill
        child.end()
        what = "could not be started" if child.exit_code is None else f"died (exit code {child.exit_code})"
        logger.error("The trainer %s; starting another", what)
        has_database_failed = child.exit_code == EXIT_DATABASE_FAILED
        if has_database_failed:
            self._lease.release_all()
        else:
            self._lease.report_crash()
        self._clear_claims()
        self._next_evaluation = time.monotonic() + EVALUATION_SECONDS
        if child.ready is None or has_database_failed:
            self._sleep_with_heartbeat(self._restart_seconds)
            self._restart_seconds = min(2 * self._restart_seconds, LAST_RESTART_SECONDS)
        return self._start_trainer()

    def _sleep_with_heartbeat(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._is_stopping:
            self._lease.beat_if_due(self._info(None))
            time.sleep(0.1)

    def _stop(self, child: TrainerProcess) -> None:
        """Let the child commit and release its runs within `STOP_SECONDS`; then release the remaining claims."""
        logger.info("Worker %s is stopping", self.name)
        child.send(Stop())
        deadline = time.monotonic() + STOP_SECONDS
        while child.ready is not None and time.monotonic() < deadline:
            messages = child.receive(0.1)
            if messages is None:
                break
            for message in messages:
                self._handle_message(child, message)
            self._send_heartbeat(child)
        child.end()
        self._lease.release_all()

    def _unregister(self) -> None:
        if self._fork_server is not None:
            self._fork_server.close()
        try:
            with self._database.writing() as session:
                registry.unregister(session, self.name)
        except SQLAlchemyError as error:
            logger.error("The worker stays listed for a while: %s", describe_failure(error))
        self._database.close()
