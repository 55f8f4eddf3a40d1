"""How the processes log: one line an event, to standard error, as text or as JSON."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from app.visible import escape_json, visible

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
    formatter: logging.Formatter
    if log_format == "json":
        wanted = ("levelname", "name", "message", "request_id")
        formatter = _JsonFormatter(
            wanted,
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields={"process": process},
            reserved_attrs=[*RESERVED_ATTRS, "of_request", "color_message"],
        )
    else:
        text = f"%(asctime)s %(levelname)-7s {process:<7} %(message)s%(of_request)s"
        formatter = _TextFormatter(text, datefmt="%Y-%m-%d %H:%M:%S")
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_last_words
    threading.excepthook = _log_end_of_thread


def report_early(process: str, lines: Iterable[str]) -> None:
    """Say what keeps a process from starting before its settings are known: as JSON, if that is what they ask for."""
    if os.environ.get("DIGITLAB_LOG_FORMAT") == "json":
        configure_logging(process, "json")
        for line in lines:
            logging.error("%s", line)
    else:
        sys.stderr.writelines(f"{visible(line)}\n" for line in lines)


class _TextFormatter(logging.Formatter):
    """A record is one line, whatever is in it; a traceback's lines follow, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record).rstrip("\n"))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"    {visible(line)}" for line in super().formatException(ei).split("\n"))


class _JsonFormatter(OrjsonFormatter):
    """JSON escapes what would end a line, but not all that a terminal obeys."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_json(super().format(record))


def _log_last_words(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        logging.critical("Ended by an unexpected error", exc_info=(kind, error, traceback))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not issubclass(ended.exc_type, SystemExit):
        name = ended.thread.name if ended.thread else "unknown"
        logging.error("Thread %s has ended", name, exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback))


def _name_request(record: logging.LogRecord) -> bool:
    request_id = REQUEST_ID.get()
    record.request_id = request_id
    record.of_request = f" [{request_id}]" if request_id else ""
    return True
