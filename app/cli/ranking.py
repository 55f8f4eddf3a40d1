"""`digitlab ranking`: by what models are ranked, and which one is champion."""

from __future__ import annotations

from app.cli.client import Client
from app.cli.terminal import Terminal


def show_or_change(url: str, by: str | None) -> int:
    """Change the order if one is given; print the order, the champion and why it is it.

    Args:
        url: Where the service is.
        by: `shifted` or `val`; None changes nothing.
    """
    terminal = Terminal()
    with Client(url) as client:
        if by is None:
            ranking = client.call("GET", "models", "ranking")
        else:
            ranking = client.call("PUT", "models", "ranking", document={"by": by})
        terminal.say(f"Models are ranked by {ranking['by']} accuracy.")
        if ranking["champion_run_id"] is not None:
            terminal.say(f"Champion: run {ranking['champion_run_id']}. {ranking['why']}")
    return 0
