"""How the processes log: one line an event, to standard error, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered."""


def configure_logging(process: str, log_format: str) -> None:
    """Log from INFO up, naming the process: several of them share a terminal under `digitlab up`.

    Args:
        process: What this one is called: `api`, `worker`, `trainer`.
        log_format: `text` or `json`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_name_request)
    if log_format == "json":
        wanted = ("levelname", "name", "message", "request_id")
        formatter: logging.Formatter = OrjsonFormatter(
            wanted,
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields={"process": process},
            reserved_attrs=[*RESERVED_ATTRS, "of_request"],
        )
    else:
        text = f"%(asctime)s %(levelname)-7s {process:<7} %(message)s%(of_request)s"
        formatter = logging.Formatter(text, datefmt="%Y-%m-%d %H:%M:%S")
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _name_request(record: logging.LogRecord) -> bool:
    request_id = REQUEST_ID.get()
    record.request_id = request_id
    record.of_request = f" [{request_id}]" if request_id else ""
    return True
