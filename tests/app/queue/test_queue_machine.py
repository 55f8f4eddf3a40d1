"""A Hypothesis state machine over the queue: no sequence of client and worker actions leads to an illegal state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.database import Database
from app.errors import Conflict
from app.queue import claiming, lifecycle
from app.queue.claiming import Claim, SideBySide, StaleClaim
from app.run_config import RunConfig
from app.runs import service
from app.runs.schemas import RunLabels, RunPatch
from app.runs.service import Submission
from app.tables import Event, EventCounter, Run, RunStatus

QUEUED, RUNNING, PAUSED = RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSED
SUCCEEDED, FAILED, CANCELLED = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED
LEGAL = {
    QUEUED: {RUNNING, PAUSED, CANCELLED},
    RUNNING: {SUCCEEDED, FAILED, CANCELLED, PAUSED, QUEUED},
    PAUSED: {QUEUED, CANCELLED},
    SUCCEEDED: set(),
    FAILED: set(),
    CANCELLED: set(),
}
STATUS_AFTER = {"queued": QUEUED, "resumed": QUEUED, "started": RUNNING} | {
    status.value: status for status in (PAUSED, SUCCEEDED, FAILED, CANCELLED)
}
any_run = st.integers(0, 7)
any_worker = st.sampled_from(["one", "two", "three"])


@dataclass
class Expected:
    """The expected content of a run's row."""

    status: RunStatus = QUEUED
    priority: int = 0
    claim_number: int = 0
    crashes: int = 0
    epoch: int = 0
    is_expired: bool = False
    is_cancel_requested: bool = False
    is_pause_requested: bool = False

    def let_go(self) -> None:
        self.status = CANCELLED if self.is_cancel_requested else PAUSED if self.is_pause_requested else QUEUED
        self.leave()

    def lose(self) -> None:
        self.crashes += 1
        if self.crashes >= lifecycle.MAX_CRASHES_WITHOUT_PROGRESS and not self.is_cancel_requested:
            self.status = FAILED
            self.leave()
        else:
            self.let_go()

    def leave(self) -> None:
        self.is_expired = self.is_cancel_requested = self.is_pause_requested = False


class QueueMachine(RuleBasedStateMachine):
    """Clients and three workers act on the queue; every rule is one transaction, as in the service."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.expected: dict[str, Expected] = {}
        self.claims: list[Claim] = []  # all claims so far, including stale ones
        with database.writing() as session:
            for table in (Run, Event):
                session.execute(delete(table))
            session.execute(update(EventCounter).values(last_event_id=0))

    def pick(self, number: int) -> str:
        ids = list(self.expected)
        return ids[number % len(ids)]

    @initialize()
    def begin(self) -> None:
        for priority in (0, 1):
            self.submit(priority, 16)
            self.submit(priority, 16)

    @rule(priority=st.integers(-1, 1), width=st.sampled_from([16, 32]))
    def submit(self, priority: int, width: int) -> None:
        config = RunConfig.model_validate({"model": {"kind": "mlp", "hidden_sizes": [width]}})
        with self.database.writing() as session:
            submission = Submission(RunLabels(priority=priority), config)
            run = service.enqueue(session, submission, max_queued_runs=1000)
        self.expected[run.id] = Expected(priority=priority)

    @rule(
        worker=any_worker,
        max_stack_bytes=st.sampled_from([0, 2**20, 2**30]),
        side_by_side=st.sampled_from([None, SideBySide(("auto",), 3, 2**30), SideBySide(("auto",), 132, 2**30)]),
    )
    def claim(self, worker: str, max_stack_bytes: int, side_by_side: SideBySide | None) -> None:
        with self.database.writing() as session:
            stacks = claiming.claim_stacks(
                session,
                worker=worker,
                devices=["auto"],
                lease_seconds=3600,
                max_stack_bytes=max_stack_bytes,
                side_by_side=side_by_side,
            )
        for expected in self.expected.values():
            if expected.is_expired:
                expected.lose()
        queued = {run_id: run for run_id, run in self.expected.items() if run.status is QUEUED}
        order = sorted(queued, key=lambda run_id: (-queued[run_id].priority, run_id))
        assert bool(stacks) == bool(order)
        if len(stacks) > 1:
            assert side_by_side is not None
            assert {queued[claim.run_id].crashes for stack in stacks for claim in stack} == {0}
            assert sum(map(len, stacks)) <= max(len(stacks[0]), side_by_side.max_runs)
        for stack in stacks:
            assert stack[0].run_id == next(run_id for run_id in order if run_id in queued)
            assert len({queued[claim.run_id].epoch for claim in stack}) == 1
            for claim in stack:
                run = queued.pop(claim.run_id)
                run.status, run.claim_number = RUNNING, run.claim_number + 1
                assert claim.claim_number == run.claim_number
            self.claims += stack

    def write(self, number: int, what: Callable[[Session, Claim], Any]) -> Expected | None:
        """Write under one of the claims; a stale claim must be refused, and the result is then None."""
        claim = self.claims[-1 - number % len(self.claims)]  # small numbers pick the newest claims
        expected = self.expected[claim.run_id]
        holds = expected.status is RUNNING and expected.claim_number == claim.claim_number
        try:
            with self.database.writing() as session:
                what(session, claim)
        except StaleClaim:
            assert not holds
            return None
        assert holds
        return expected

    @precondition(lambda self: self.claims)
    @rule(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=4))
    def renew(self, numbers: list[int]) -> None:
        claims = list(dict.fromkeys(self.claims[number % len(self.claims)] for number in numbers))
        with self.database.writing() as session:
            held = claiming.renew(session, claims, 3600)
        for claim in claims:
            run = self.expected[claim.run_id]
            assert (claim in held) == (run.status is RUNNING and run.claim_number == claim.claim_number)
            if claim in held:
                assert held[claim] == (run.is_cancel_requested or run.is_pause_requested)
                run.is_expired = False

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 9))
    def make_progress(self, number: int) -> None:
        def commit(session: Session, claim: Claim) -> None:
            run = claiming.fence(session, claim)
            run.epoch += 1
            run.crashes_without_progress = 0

        if expected := self.write(number, commit):
            expected.epoch += 1
            expected.crashes = 0

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 9), status=st.sampled_from([SUCCEEDED, FAILED]))
    def finish(self, number: int, status: RunStatus) -> None:
        if expected := self.write(number, lambda s, claim: lifecycle.end(s, claiming.fence(s, claim), status)):
            expected.status = status
            expected.leave()

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 9))
    def release(self, number: int) -> None:
        if expected := self.write(number, claiming.release):
            expected.let_go()

    @precondition(lambda self: self.claims)
    @rule(number=st.integers(0, 9))
    def kill_trainer(self, number: int) -> None:
        if expected := self.write(number, claiming.report_crash):
            expected.lose()

    @precondition(lambda self: self.expected)
    @rule(number=any_run)
    def kill_worker(self, number: int) -> None:
        """Let a run's lease expire; the next worker that claims runs notices it."""
        run_id = self.pick(number)
        expired = update(Run).where(Run.id == run_id, Run.status == RUNNING).values(lease_expires_at=1.0)
        with self.database.writing() as session:
            session.execute(expired)
        self.expected[run_id].is_expired = self.expected[run_id].status is RUNNING

    @precondition(lambda self: self.expected)
    @rule(number=any_run, priority=st.integers(-1, 1))
    def prioritise(self, number: int, priority: int) -> None:
        run_id = self.pick(number)
        with self.database.writing() as session:
            service.change(session, run_id, RunPatch(priority=priority))
        self.expected[run_id].priority = priority

    def ask(self, request: Callable[[Session, str], Run], run_id: str) -> bool:
        """Send a request twice, since repeating it must do no harm; return whether it was granted."""
        answers = []
        for _ in range(2):
            try:
                with self.database.writing() as session:
                    request(session, run_id)
                answers.append(True)
            except Conflict:
                answers.append(False)
        assert answers[0] == answers[1]
        return answers[0]

    @precondition(lambda self: self.expected)
    @rule(number=any_run)
    def cancel(self, number: int) -> None:
        run_id = self.pick(number)
        run = self.expected[run_id]
        assert self.ask(service.cancel, run_id) == (run.status not in (SUCCEEDED, FAILED))
        if run.status is RUNNING:
            run.is_cancel_requested = True
        elif run.status in (QUEUED, PAUSED):
            run.status = CANCELLED

    @precondition(lambda self: self.expected)
    @rule(number=any_run)
    def pause(self, number: int) -> None:
        run_id = self.pick(number)
        run = self.expected[run_id]
        is_granted = not run.status.is_finished() and not run.is_cancel_requested
        assert self.ask(service.pause, run_id) == is_granted
        if is_granted and run.status is RUNNING:
            run.is_pause_requested = True
        elif is_granted:
            run.status = PAUSED

    @precondition(lambda self: self.expected)
    @rule(number=any_run)
    def resume(self, number: int) -> None:
        run_id = self.pick(number)
        run = self.expected[run_id]
        is_granted = not run.status.is_finished() and not run.is_cancel_requested
        assert self.ask(service.resume, run_id) == is_granted
        if is_granted:
            run.is_pause_requested = False
            run.status = QUEUED if run.status is PAUSED else run.status

    @invariant()
    def every_row_is_as_expected(self) -> None:
        with self.database.reading() as session:
            rows = {run.id: run for run in session.scalars(select(Run))}
            events = session.scalars(select(Event).order_by(Event.id)).all()
        assert rows.keys() == self.expected.keys()
        for run_id, expected in self.expected.items():
            _check_row(rows[run_id], expected)
        assert [event.id for event in events] == list(range(1, len(events) + 1))
        self.check_history(events)

    def check_history(self, events: Any) -> None:
        """Check that by its events every run makes only legal transitions and ends in the state of its row."""
        statuses: dict[str, RunStatus] = {}
        claim_numbers = dict.fromkeys(self.expected, 0)
        for event in events:
            run_id, status = event.run_id, STATUS_AFTER.get(event.type.value)
            if event.type == "started":
                claim_numbers[run_id] += 1
                assert event.data["claim_number"] == claim_numbers[run_id]
            if event.type == "worker_lost":
                assert statuses[run_id] is RUNNING
                assert event.data["claim_number"] == claim_numbers[run_id]
            if status is not None:
                assert event.data["status"] == status
                assert run_id not in statuses or status in LEGAL[statuses[run_id]]
                statuses[run_id] = status
        assert statuses == {run_id: run.status for run_id, run in self.expected.items()}
        assert claim_numbers == {run_id: run.claim_number for run_id, run in self.expected.items()}


def _check_row(run: Run, expected: Expected) -> None:
    assert run.status is expected.status
    assert run.claim_number == expected.claim_number
    assert run.crashes_without_progress == expected.crashes
    assert run.cancel_requested == expected.is_cancel_requested
    assert run.pause_requested == expected.is_pause_requested
    assert run.priority == expected.priority
    is_running = run.status is RUNNING
    assert (run.worker is not None) == is_running
    assert (run.lease_expires_at is not None) == is_running
    assert (run.finished_at is not None) == run.status.is_finished()
    assert (run.error_code == "worker_lost") == (run.status is FAILED and expected.crashes >= 3)


def test_no_sequence_of_requests_claims_and_crashes_leads_to_an_illegal_state(database: Database) -> None:
    class Machine(QueueMachine):
        def __init__(self) -> None:
            super().__init__(database)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=checks),
    )
