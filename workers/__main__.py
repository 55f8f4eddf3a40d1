"""`python -m workers`: one worker process, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec

from pydantic import ValidationError

from app import lifeline
from app.logs import configure_logging, report_early
from app.opening import Unusable, open_database
from app.settings import Settings, describe_invalid
from app.surroundings import ignore_foreign_variables
from workers.fork_server import StartMethod
from workers.worker import Worker


def main(start_method: StartMethod = "spawn") -> int:
    ignore_foreign_variables()
    try:
        settings = Settings()
    except ValidationError as error:
        report_early("worker", describe_invalid(error))
        return 2
    configure_logging("worker", settings.log_format)
    lifeline.hold_on()
    missing = [name for name in ("torch", "torchvision", "sklearn", "onnx", "skl2onnx") if find_spec(name) is None]
    if missing:
        logging.error("A worker needs %s: pip install 'digitlab[worker]'", ", ".join(missing))
        return 2
    try:
        open_database(settings).close()
    except Unusable as error:
        logging.error("%s", error)
        return 1
    Worker(settings, start_method).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
