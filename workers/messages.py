"""What the worker's parent process and its trainer child say to each other, over a pipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.runs.queue import Claim


@dataclass(frozen=True)
class Ready:
    """Child: I have loaded everything, and this is where I can train."""

    devices: list[str]  # what runs may ask for, `auto` included
    device: str  # where runs with `device: auto` train
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Train:
    """Parent: train this run."""

    claim: Claim


@dataclass(frozen=True)
class Done:
    """Child: I have nothing more to do with this run, however it ended."""

    claim: Claim


@dataclass(frozen=True)
class EndRun:
    """Parent: end this run as cancelled at the next epoch boundary; or, if its claim is lost, just let go of it."""

    claim: Claim


@dataclass(frozen=True)
class Stop:
    """Parent: commit and release what you train, and exit."""


FromParent = Train | EndRun | Stop
FromChild = Ready | Done
