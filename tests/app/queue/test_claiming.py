"""The queue: which worker claims which runs, and what happens to a run whose worker is lost."""

from __future__ import annotations

from typing import Any

import pytest

from app.database import Database
from app.queue import claiming, lifecycle
from app.queue.claiming import MAX_STACKS, Claim, SideBySide, StaleClaim
from app.run_config import RunConfig, complete
from app.run_costs import shared_bytes, stack_bytes, stack_key
from app.tables import Run, RunStatus
from tests.conftest import AddRun, TestClient, claim_stack, get_run


def _claim_stack(database: Database, worker: str = "one", *, max_stack_bytes: int = 2**26) -> list[Claim]:
    with database.writing() as session:
        return claim_stack(
            session, worker=worker, devices=["auto", "cpu"], lease_seconds=3600, max_stack_bytes=max_stack_bytes
        )


def _claim(database: Database, worker: str = "one") -> Claim:
    (claim,) = _claim_stack(database, worker, max_stack_bytes=0)
    return claim


def _config(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(complete(RunConfig().model_dump(), changes))


def _expire(database: Database, run_id: str) -> None:
    with database.writing() as session:
        session.get_one(Run, run_id).lease_expires_at = 1.0


def test_runs_are_claimed_by_priority_then_by_age(database: Database, add_run: AddRun) -> None:
    old, young, urgent = add_run(), add_run(), add_run(priority=5)
    assert [_claim(database).run_id for _ in range(3)] == [urgent, old, young]
    assert _claim_stack(database) == []


def test_compatible_runs_are_claimed_as_one_stack(database: Database, add_run: AddRun) -> None:
    alike = [
        add_run(_config(seed=1)),
        add_run(_config(model={"hidden_sizes": [120, 50], "activation": "tanh", "dropout": 0.5})),
        add_run(_config(training={"optimizer": {"learning_rate": 0.3}, "epochs": 7}, scaling="byte")),
        add_run(_config(split={"seed": 5}, training={"early_stopping": {"patience": 3}})),
        add_run(_config(training={"schedule": {"kind": "cosine"}, "optimizer": {"nesterov": True}})),
    ]
    others = [
        add_run(_config(model={"hidden_sizes": [128, 65]})),
        add_run(_config(training={"batch_size": 32})),
        add_run(_config(training={"optimizer": {"kind": "adam"}})),
        add_run(_config(split={"val_size": 0.25})),
        add_run(_config(device="cpu")),
        add_run(_config(training={"augmentation": {}})),
        add_run(_config(training={"augmentation": {"strength": 0.5}})),
        add_run(_config(model={"kind": "random_forest"})),
        add_run(_config(model={"kind": "random_forest"}, seed=1)),
        add_run(epoch=3),
    ]
    assert [claim.run_id for claim in _claim_stack(database)] == alike
    assert {(get_run(database, run_id).stack_id, get_run(database, run_id).stack_size) for run_id in alike} == {
        (get_run(database, alike[0]).stack_id, 5)
    }
    assert [[claim.run_id for claim in _claim_stack(database)] for _ in others] == [[run_id] for run_id in others]


def test_a_batch_as_large_as_the_split_is_a_full_batch() -> None:
    assert stack_key(_config(training={"batch_size": None})) == stack_key(_config(training={"batch_size": 1257}))
    assert stack_key(_config(training={"batch_size": None})) != stack_key(_config(training={"batch_size": 1256}))


def test_a_stack_takes_the_most_urgent_runs_that_fit(database: Database, add_run: AddRun) -> None:
    runs = [add_run(priority=priority) for priority in (0, 1, 2, 3)]
    room = 2 * stack_bytes(RunConfig())
    assert [claim.run_id for claim in _claim_stack(database, max_stack_bytes=room)] == [runs[3], runs[2]]
    assert [claim.run_id for claim in _claim_stack(database, max_stack_bytes=0)] == [runs[1]]


def test_the_bank_of_a_stack_with_augmentation_counts_once(database: Database, add_run: AddRun) -> None:
    """The run that is claimed first has fewer copies than the others, and the bank is as large as theirs."""
    copies = (3, 256, 16)
    runs = [add_run(_config(training={"augmentation": {"copies": number}})) for number in copies]
    config = _config(training={"augmentation": {"copies": 256}})
    room = shared_bytes(config) + 2 * stack_bytes(config)
    assert [claim.run_id for claim in _claim_stack(database, max_stack_bytes=room)] == runs[:2]
    assert [claim.run_id for claim in _claim_stack(database, max_stack_bytes=2 * stack_bytes(config))] == runs[2:]


def test_one_poisonous_run_fails_no_other_run(database: Database, add_run: AddRun) -> None:
    """Every stack with the poisonous run loses its worker; the other runs are trained in stacks without it."""
    runs = [add_run() for _ in range(16)]
    poisonous = runs[5]
    sizes = []
    while claims := _claim_stack(database):
        sizes.append(len(claims))
        with database.writing() as session:
            for claim in claims:
                if any(claim.run_id == poisonous for claim in claims):
                    claiming.report_crash(session, claim)
                else:
                    lifecycle.end(session, claiming.fence(session, claim), RunStatus.SUCCEEDED)
    statuses = {run_id: get_run(database, run_id).status for run_id in runs}
    assert statuses.pop(poisonous) is RunStatus.FAILED
    assert set(statuses.values()) == {RunStatus.SUCCEEDED}
    assert sizes[:2] == [16, 4]
    assert sorted(sizes[2:]) == [1, 1, 1, 1, 4, 4, 4]


def test_runs_of_a_lost_stack_are_claimed_again_by_number(database: Database, add_run: AddRun) -> None:
    for _ in range(3):
        add_run()
    first = _claim_stack(database, "one")
    for claim in first:
        _expire(database, claim.run_id)
    second = _claim_stack(database, "two")
    assert [claim.claim_number for claim in second] == [2]  # one run: a quarter of the lost stack of three, rounded up
    with database.writing() as session:
        assert claiming.renew(session, first, 60) == {}


def test_a_renewal_says_which_claims_still_hold(database: Database, add_run: AddRun) -> None:
    add_run()
    held = _claim(database)
    stale = Claim(held.run_id, held.claim_number - 1)
    with database.writing() as session:
        assert claiming.renew(session, [held, stale], 60) == {held: False}


def test_a_worker_whose_run_was_taken_over_can_write_nothing_more(database: Database, add_run: AddRun) -> None:
    run_id = add_run()
    first = _claim(database)
    _expire(database, run_id)
    second = _claim(database, "two")
    assert second == Claim(run_id, first.claim_number + 1)
    with pytest.raises(StaleClaim), database.writing() as session:
        claiming.fence(session, first)
    with database.writing() as session:
        assert claiming.fence(session, second).worker == "two"
        assert claiming.renew(session, [first], 60) == {}


def test_a_release_counts_nothing(database: Database, add_run: AddRun) -> None:
    run_id = add_run()
    for _ in range(5):
        claim = _claim(database)
        with database.writing() as session:
            claiming.release(session, claim)
    run = get_run(database, run_id)
    assert (run.status, run.crashes_without_progress, run.worker) == (RunStatus.QUEUED, 0, None)


@pytest.mark.parametrize("how", ["lease", "child"])
def test_three_crashes_without_progress_fail_a_run(database: Database, add_run: AddRun, how: str) -> None:
    run_id = add_run()
    for _ in range(3):
        claim = _claim(database)
        if how == "lease":
            _expire(database, run_id)
        else:
            with database.writing() as session:
                claiming.report_crash(session, claim)
    assert _claim_stack(database) == []
    run = get_run(database, run_id)
    assert (run.status, run.error_code) == (RunStatus.FAILED, "worker_lost")


def test_a_queued_run_is_cancelled_at_once(database: Database, add_run: AddRun, client: TestClient) -> None:
    run_id = add_run()
    assert client.post(f"/runs/{run_id}/cancel").is_success
    assert get_run(database, run_id).status == RunStatus.CANCELLED
    assert _claim_stack(database) == []


def test_a_running_run_is_asked_to_end(database: Database, add_run: AddRun, client: TestClient) -> None:
    run_id = add_run()
    claim = _claim(database)
    assert client.post(f"/runs/{run_id}/cancel").is_success
    assert get_run(database, run_id).status == RunStatus.RUNNING
    with database.writing() as session:
        assert claiming.renew(session, [claim], 60) == {claim: True}
        claiming.release(session, claim)
    assert get_run(database, run_id).status == RunStatus.CANCELLED


def test_a_succeeded_run_stays_so_when_it_is_cancelled(database: Database, add_run: AddRun, client: TestClient) -> None:
    run_id = add_run(status=RunStatus.SUCCEEDED)
    assert client.post(f"/runs/{run_id}/cancel").status_code == 409
    assert get_run(database, run_id).status == RunStatus.SUCCEEDED


SIDE_BY_SIDE = SideBySide(devices=("auto", "cuda"), max_runs=132, max_bytes=2**30)
WIDTHS = (16, 32, 48, 64)


def _network(width: int, **changes: Any) -> RunConfig:
    return _config(model={"hidden_sizes": [width]}, **changes)


def _claim_stacks(
    database: Database, *, max_stack_bytes: int = 2**26, side_by_side: SideBySide = SIDE_BY_SIDE
) -> list[list[str]]:
    """Claim for a trainer whose launches can be shared; returns the run ids of each stack."""
    with database.writing() as session:
        stacks = claiming.claim_stacks(
            session,
            worker="one",
            devices=["auto", "cuda", "cpu"],
            lease_seconds=3600,
            max_stack_bytes=max_stack_bytes,
            side_by_side=side_by_side,
        )
    return [[claim.run_id for claim in stack] for stack in stacks]


def test_stacks_of_several_shapes_share_a_claim_in_the_order_of_the_queue(database: Database, add_run: AddRun) -> None:
    first, second, third, again, resumed = (
        add_run(_network(16)),
        add_run(_network(32, device="cuda")),
        add_run(_network(64)),
        add_run(_network(16, seed=1)),
        add_run(_network(64), epoch=5),
    )
    urgent = add_run(_network(32, device="cuda"), priority=1)
    expected = [[urgent, second], [first, again], [third], [resumed]]
    assert _claim_stacks(database) == expected
    assert _claim_stacks(database) == []
    runs = [[get_run(database, run_id) for run_id in stack] for stack in expected]
    assert [{(run.stack_id, run.stack_size) for run in stack} for stack in runs] == [
        {(stack[0].stack_id, len(stack))} for stack in runs
    ]
    assert len({stack[0].stack_id for stack in runs}) == len(runs)
    assert {(run.status, run.worker, run.claim_number) for stack in runs for run in stack} == {
        (RunStatus.RUNNING, "one", 1)
    }


def test_a_trainer_that_shares_no_launches_claims_one_stack(database: Database, add_run: AddRun) -> None:
    """So does one that shares them on CUDA, for runs on the CPU."""
    runs = [add_run(_network(width, device="cpu")) for width in WIDTHS]
    assert [claim.run_id for claim in _claim_stack(database)] == [runs[0]]
    assert [_claim_stacks(database) for _ in runs[1:]] == [[[run_id]] for run_id in runs[1:]]


@pytest.mark.parametrize("place", [0, 1])
def test_a_run_that_lost_its_worker_shares_no_claim_with_other_stacks(
    database: Database, add_run: AddRun, place: int
) -> None:
    """Wherever it stands in the queue, it is claimed with its own stack, as without shared launches."""
    runs = [add_run(_network(width)) for width in WIDTHS[:3]]
    (stack, *_) = _claim_stacks(database, side_by_side=SideBySide(("auto",), 1, 2**30))
    assert stack == [runs[0]]
    with database.writing() as session:
        claiming.report_crash(session, Claim(runs[0], 1))
        session.get_one(Run, runs[0]).priority = -place  # 0: first; -1: last
    claims = [_claim_stacks(database) for _ in range(2)]
    assert claims == [[[runs[0]]], [[runs[1]], [runs[2]]]][:: -1 if place else 1]


def test_a_run_that_cannot_share_waits_for_no_stack_behind_it(database: Database, add_run: AddRun) -> None:
    """A claim ends at the first run that must be trained otherwise; that one is first in the next claim."""
    before = [add_run(_network(width)) for width in (16, 32)]
    forest = add_run(_config(model={"kind": "random_forest"}))
    behind = [add_run(_network(48)), add_run(_network(32, seed=1))]
    assert _claim_stacks(database) == [[before[0]], [before[1], behind[1]]]  # a stack takes all that fit, as ever
    assert _claim_stacks(database) == [[forest]]
    assert _claim_stacks(database) == [[behind[0]]]


def test_the_memory_of_a_claim_bounds_all_its_stacks(database: Database, add_run: AddRun) -> None:
    narrow = [add_run(_network(16, seed=seed)) for seed in range(2)]
    wide = [add_run(_network(64, seed=seed)) for seed in range(3)]
    room = 2 * stack_bytes(_network(16)) + 2 * stack_bytes(_network(64))
    assert _claim_stacks(database, max_stack_bytes=room) == [narrow, wide[:2]]
    other = add_run(_network(16, training={"augmentation": {}}))
    config = _network(16, training={"augmentation": {}})
    room = stack_bytes(_network(64)) + stack_bytes(config) + shared_bytes(config)
    assert _claim_stacks(database, max_stack_bytes=room - 1) == [wide[2:]]
    more = add_run(_network(32))
    claims = _claim_stacks(database, max_stack_bytes=2**40, side_by_side=SideBySide(("auto",), 132, room))
    assert claims == [[other], [more]]
    assert shared_bytes(config) > 0


def test_the_devices_memory_bounds_the_first_stack_too(database: Database, add_run: AddRun) -> None:
    runs = [add_run(_network(16, seed=seed)) for seed in range(3)]
    side_by_side = SideBySide(("auto",), 132, 2 * stack_bytes(_network(16)))
    assert _claim_stacks(database, side_by_side=side_by_side) == [runs[:2]]
    assert _claim_stacks(database, max_stack_bytes=0) == [runs[2:]]


def test_a_claim_has_so_many_runs_and_stacks(database: Database, add_run: AddRun) -> None:
    """The first stack is as large as without shared launches; others fill what the device computes at once."""
    narrow = [add_run(_network(16, seed=seed)) for seed in range(3)]
    wide = [add_run(_network(32, seed=seed)) for seed in range(3)]
    few = SideBySide(("auto",), 4, 2**30)
    assert _claim_stacks(database, side_by_side=few) == [narrow, wide[:1]]
    assert _claim_stacks(database, side_by_side=SideBySide(("auto",), 1, 2**30)) == [wide[1:]]
    many = [add_run(_network(16 * number)) for number in range(1, MAX_STACKS + 2)]
    assert _claim_stacks(database) == [[run_id] for run_id in many[:MAX_STACKS]]
    assert _claim_stacks(database) == [[many[MAX_STACKS]]]
