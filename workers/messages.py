"""The messages between the worker's parent process and its trainer child, over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.queue.claiming import Claim, SideBySide

EXIT_DATABASE_FAILED = 77  # the child's exit code when a write failed, which is no crash of its runs


@dataclass(frozen=True)
class Ready:
    """Child to parent: everything is loaded; these are the devices."""

    devices: list[str]  # the values of `device` that the child can train, `auto` included
    device: str  # the device of runs with `device: auto`
    provenance: dict[str, Any]
    side_by_side: SideBySide | None = None  # None: the child trains one stack at a time


@dataclass(frozen=True)
class Train:
    """Parent to child: train these stacks."""

    stacks: list[list[Claim]]


@dataclass(frozen=True)
class Done:
    """Child to parent: the run has ended or left, in whatever way; its claim needs no renewal."""

    claim: Claim


@dataclass(frozen=True)
class Idle:
    """Child to parent: all stacks are done; the child is free for others."""


@dataclass(frozen=True)
class Release:
    """Parent to child: release these runs at the next epoch boundary; their rows say what becomes of them."""

    claims: list[Claim]


@dataclass(frozen=True)
class Evaluate:
    """Parent to child, which has nothing to train: evaluate saved models that have no shifted accuracy yet."""


@dataclass(frozen=True)
class Evaluated:
    """Child to parent: the answer to `Evaluate`, also when another message came before all were evaluated."""

    is_complete: bool


@dataclass(frozen=True)
class Stop:
    """Parent to child: commit and release the runs in training, and exit."""


FromParent = Train | Release | Evaluate | Stop
FromChild = Ready | Done | Idle | Evaluated
