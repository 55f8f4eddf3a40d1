"""What the worker's parent process and its trainer child say to each other, over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.queue.claiming import Claim

EXIT_DATABASE_FAILED = 77  # the child's exit code when it could not write: its runs are not to blame


@dataclass(frozen=True)
class Ready:
    """Child: I have loaded everything, and this is where I can train."""

    devices: list[str]  # what runs may ask for, `auto` included
    device: str  # where runs with `device: auto` train
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Train:
    """Parent: train these runs together."""

    claims: list[Claim]


@dataclass(frozen=True)
class Done:
    """Child: I have nothing more to do with this run, however it ended."""

    claim: Claim


@dataclass(frozen=True)
class Idle:
    """Child: the whole stack is done; I am free for another."""


@dataclass(frozen=True)
class Release:
    """Parent: train these runs no further than the next epoch boundary; their rows say what becomes of them."""

    claims: list[Claim]


@dataclass(frozen=True)
class Stop:
    """Parent: commit and release what you train, and exit."""


FromParent = Train | Release | Stop
FromChild = Ready | Done | Idle
