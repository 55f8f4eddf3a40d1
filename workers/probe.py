"""`python -m workers.probe`: checks that a worker of this machine sends heartbeats, for the image's health check."""

from __future__ import annotations

import socket
import sys

from sqlalchemy.exc import SQLAlchemyError

from app.database import Database, explain_failure
from app.settings import Settings
from app.worker_registry import repository


def main() -> int:
    """Returns the exit code: 0 if a worker of this machine is alive in the database."""
    settings = Settings()
    database = Database(settings.resolved_database_url)
    try:
        with database.reading() as session:
            alive = repository.WorkerWatch(settings.lease_seconds).list_alive(session)
            is_heard_of = any(worker.host == socket.gethostname() for worker, _ in alive)
    except SQLAlchemyError as error:
        sys.stderr.write(f"{explain_failure(error)}\n")
        return 1
    finally:
        database.close()
    return 0 if is_heard_of else 1


if __name__ == "__main__":
    sys.exit(main())
