"""How the processes log: one line an event, to standard error."""

from __future__ import annotations

import logging


def configure_logging(process: str) -> None:
    """Log from INFO up, naming the process: several of them share a terminal under `digitlab up`."""
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)-7s {process:<7} %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
