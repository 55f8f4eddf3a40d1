"""Tells whether a live worker can train a run. None can if the run asks for a device that no worker has."""

from __future__ import annotations

from collections.abc import Sequence

from app.tables import Worker

NO_WORKER = "There is no worker: submitted runs wait until one starts (digitlab worker)."


def why_it_waits(device: str, alive: Sequence[Worker]) -> str | None:
    """Explain why no live worker can take a run for this device; None if one can, or may once it has started."""
    if not alive:
        return NO_WORKER
    if any(worker.devices is None for worker in alive):
        return None
    offered = {each for worker in alive for each in worker.devices or ()}
    if device in offered:
        return None
    return (
        f'No live worker trains runs with "device": "{device}", only with {", ".join(sorted(offered))}: '
        "such a run waits until one starts that does."
    )
