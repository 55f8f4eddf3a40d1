"""The worker's parent process: claims runs, hands them to its trainer child, and keeps their leases.

It stays light, so that it answers at once whatever the child is doing; torch is loaded in the child alone.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import socket
import time
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from sqlalchemy.exc import DBAPIError

from app.database import Database
from app.runs import queue
from app.runs.queue import Claim
from app.settings import Settings
from app.tables import new_id
from app.workers import repository as registry
from workers.lease import Lease
from workers.messages import Done, EndRuns, FromChild, FromParent, Idle, Ready, Stop, Train

logger = logging.getLogger(__name__)

DEAD_WORKERS_KEPT_SECONDS = 3600.0
FIRST_RESTART_SECONDS = 0.5
LAST_RESTART_SECONDS = 30.0


def run_trainer(connection: Connection, settings: Settings) -> None:
    """The child's first function. It imports the trainer by name, so that importing this module never loads torch."""
    importlib.import_module("workers.trainer").main(connection, settings)


class Child:
    """A trainer child process and the pipe to it."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=run_trainer, args=(theirs, settings), name="digitlab-trainer", daemon=True
        )
        self.process.start()
        theirs.close()  # so that the pipe ends with the child
        self.ready: Ready | None = None
        self.started_at = time.monotonic()

    def receive(self, timeout: float) -> list[FromChild] | None:
        """What the child says within `timeout` seconds; None when it is gone."""
        wait([self.connection, self.process.sentinel], timeout)
        messages: list[FromChild] = []
        try:
            while self.connection.poll():
                messages.append(self.connection.recv())
        except (EOFError, ConnectionResetError):
            return None
        return messages if messages or self.process.is_alive() else None

    def send(self, message: FromParent) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # `receive` will tell
            self.connection.send(message)

    def end(self) -> None:
        """Make sure that the process is gone."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Worker:
    """One worker: trains one stack after the other until it is told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.resolved_database_url)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{new_id()[-6:]}"
        self._lease = Lease(self._database, settings, self.name)
        self._is_training = False
        self._claims: set[Claim] = set()  # of the stack in training, as far as it is not done
        self._ending: set[Claim] = set()  # those that the child has been told to end
        self._is_stopping = False
        self._restart_seconds = FIRST_RESTART_SECONDS

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then commit and release what is in training."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with self._database.writing() as session:
            registry.forget_dead(session, DEAD_WORKERS_KEPT_SECONDS)
            registry.register(session, name=self.name, host=socket.gethostname(), pid=os.getpid())
        logger.info("Worker %s is starting its trainer", self.name)
        child = Child(self._settings)
        try:
            while not self._is_stopping:
                child = self._turn(child)
            self._stop(child)
        finally:
            child.end()
            with self._database.writing() as session:
                registry.unregister(session, self.name)
            self._database.close()
        logger.info("Worker %s has stopped", self.name)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._is_stopping = True

    def _turn(self, child: Child) -> Child:
        """Look after everything once; returns the child, or its successor."""
        messages = child.receive(self._settings.poll_seconds)
        if messages is None:
            return self._replace(child)
        for message in messages:
            self._hear(child, message)
        self._beat(child)
        if child.ready is not None and not self._is_training and not self._is_stopping:
            self._claim_stack(child, child.ready)
        return child

    def _hear(self, child: Child, message: FromChild) -> None:
        if isinstance(message, Ready):
            child.ready = message
            self._restart_seconds = FIRST_RESTART_SECONDS
            seconds = time.monotonic() - child.started_at
            logger.info("Trainer is ready on %s after %.1f s", message.device, seconds)
        elif isinstance(message, Done):
            self._claims.discard(message.claim)
        elif isinstance(message, Idle):
            self._forget_stack()

    def _beat(self, child: Child) -> None:
        ready = child.ready
        to_end = self._lease.beat_if_due(
            self._claims, device=ready.device if ready else None, provenance=ready.provenance if ready else None
        )
        if to_end - self._ending:
            child.send(EndRuns(list(to_end - self._ending)))
            self._ending |= to_end

    def _claim_stack(self, child: Child, ready: Ready) -> None:
        try:
            with self._database.writing() as session:
                claims = queue.claim_stack(
                    session,
                    worker=self.name,
                    devices=ready.devices,
                    lease_seconds=self._settings.lease_seconds,
                    max_stack_bytes=self._settings.max_stack_bytes,
                )
        except DBAPIError as error:
            logger.error("No claim: the database does not answer (%s)", error.orig)
            return
        if claims:
            self._claims, self._is_training = set(claims), True
            child.send(Train(claims))

    def _forget_stack(self) -> None:
        self._claims, self._ending, self._is_training = set(), set(), False

    def _replace(self, child: Child) -> Child:
        """Start another trainer in the place of one that died; wait a little longer each time one dies at its start."""
        child.process.join(1.0)  # it may still be on its way out: its own exit code is what to report
        child.end()
        logger.error("The trainer died (exit code %s); starting another", child.process.exitcode)
        if self._claims:
            self._lease.report_crash(self._claims)
        self._forget_stack()
        if child.ready is None:
            time.sleep(self._restart_seconds)
            self._restart_seconds = min(2 * self._restart_seconds, LAST_RESTART_SECONDS)
        return Child(self._settings)

    def _stop(self, child: Child) -> None:
        """Let the child commit and release its runs; it has as long as the lease, then the lease does the rest."""
        logger.info("Worker %s is stopping", self.name)
        child.send(Stop())
        deadline = time.monotonic() + self._settings.lease_seconds
        while child.process.is_alive() and time.monotonic() < deadline:
            if child.receive(0.1) is None:
                return
