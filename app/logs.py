"""Logging of all processes: one line for each event, to standard error, as text or as JSON."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Hashable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from app.visible import escape_json, visible

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being processed."""

WINDOW_SECONDS = 10.0
MAX_REMEMBERED = 1000  # different lines within the window


@dataclass
class _Seen:
    """A line that was written, and how often it has been repeated since."""

    record: logging.LogRecord
    since: float
    num_repeats: int = 0


class CollapsingHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error. Lines repeated within the window are counted, and the count is written at its end.

    Two lines are the same if their logger, level and message are. `extra={"repeats": …}` stands in for the message in
    this comparison; with `None` the line equals no other. An error with a request id is always written: the id leads to
    it.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._seen: dict[Hashable, _Seen] = {}
        self._timer: threading.Timer | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def emit(self, record: logging.LogRecord) -> None:
        key = _identity(record)
        now = time.monotonic()
        self._write_counts(until=now - WINDOW_SECONDS)
        if key is not None:
            if (seen := self._seen.get(key)) is not None:
                seen.num_repeats += 1
                self._start_timer()
                return
            if len(self._seen) < MAX_REMEMBERED:
                self._seen[key] = _Seen(record, now)
        super().emit(record)

    def close(self) -> None:
        with self.lock or threading.RLock():
            self._write_counts(until=math.inf)
            if self._timer is not None:
                self._timer.cancel()
        super().close()

    def _write_counts(self, until: float) -> None:
        for key, seen in list(self._seen.items()):
            if seen.since > until:
                return  # all later entries are younger
            del self._seen[key]
            if seen.num_repeats:
                super().emit(_count(seen))

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(WINDOW_SECONDS, self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        with self.lock or threading.RLock():
            self._timer = None
            self._write_counts(until=time.monotonic() - WINDOW_SECONDS)
            if any(seen.num_repeats for seen in self._seen.values()):
                self._start_timer()

    def _forget(self) -> None:
        """A forked process has neither the timer nor the lines of its parent."""
        self._seen, self._timer = {}, None


def _identity(record: logging.LogRecord) -> Hashable:
    """Return the key that equal lines share; None: the line equals no other."""
    if "repeats" in record.__dict__:
        what: Hashable = record.__dict__["repeats"]
        return None if what is None else (record.name, record.levelno, what)
    if record.exc_info and record.__dict__.get("request_id"):
        return None
    error = record.exc_info[1] if record.exc_info else None
    return record.name, record.levelno, record.getMessage(), repr(error)


def _count(seen: _Seen) -> logging.LogRecord:
    record = logging.makeLogRecord(seen.record.__dict__)
    times = "once more" if seen.num_repeats == 1 else f"{seen.num_repeats:,} more times"
    what = seen.record.__dict__.get("repeats") or seen.record.getMessage()
    record.msg, record.args = f"{what}: {times} within {WINDOW_SECONDS:g} s", ()
    record.exc_info = record.exc_text = None
    record.created = time.time()
    record.__dict__ |= {"request_id": None, "of_request": "", "num_repeats": seen.num_repeats}
    return record


def configure_logging(process: str, log_format: str) -> None:
    """Log from level INFO, with the process's name in each line: `digitlab up` shows several processes together.

    Args:
        process: Name of this process, as in `api`, `worker` or `trainer`.
        log_format: `text` or `json`.
    """
    handler = CollapsingHandler()
    handler.addFilter(_name_request)
    formatter: logging.Formatter
    if log_format == "json":
        wanted = ("levelname", "name", "message", "request_id")
        formatter = _JsonFormatter(
            wanted,
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
            static_fields={"process": process},
            reserved_attrs=[*RESERVED_ATTRS, "of_request", "repeats", "color_message"],
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
    """Report why a process cannot start, before its settings are known; as JSON if the environment asks for JSON."""
    if os.environ.get("DIGITLAB_LOG_FORMAT") == "json":
        configure_logging(process, "json")
        for line in lines:
            logging.error("%s", line)
    else:
        sys.stderr.writelines(f"{visible(line)}\n" for line in lines)


class _TextFormatter(logging.Formatter):
    """Formats a record as one line, whatever is in it; the lines of a traceback follow, indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record).rstrip("\n"))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"    {visible(line)}" for line in super().formatException(ei).split("\n"))


class _JsonFormatter(OrjsonFormatter):
    """Escapes all characters that control a terminal; JSON alone escapes only those that would end a line."""

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
