"""What a run takes: the runs that it shares a stack with, and its memory there."""

from __future__ import annotations

from app.run_config import RunConfig, complete
from app.run_costs import max_stack_size, shared_bytes, stack_bytes, stack_key


def test_runs_of_one_strength_share_a_stack_and_its_bank() -> None:
    base = RunConfig().model_dump()
    plain, few, many, strong = (
        RunConfig.model_validate(complete(base, {"training": {"augmentation": augmentation}}))
        for augmentation in (None, {"copies": 1}, {"copies": 256}, {"strength": 1.25})
    )
    assert stack_key(few) == stack_key(many) == f"{stack_key(plain)} augmented 1"
    assert stack_key(strong) == f"{stack_key(plain)} augmented 1.25"
    bank = 256 * 1797 * 64
    assert [shared_bytes(config) for config in (plain, few, many, strong)] == [0, bank, bank, bank]
    assert stack_bytes(few) == stack_bytes(many) == stack_bytes(plain) + 8 * 1257
    room = 3 * stack_bytes(few)
    assert [max_stack_size(few, size) for size in (0, bank, bank + room - 1, bank + room)] == [1, 1, 2, 3]
    assert max_stack_size(plain, 3 * stack_bytes(plain)) == 3
