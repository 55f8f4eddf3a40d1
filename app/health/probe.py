"""`python -m app.health.probe`: the image's health check, which asks this machine's API. It imports little."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_SECONDS = 4


def main() -> int:
    """Return 0 if the API responds with 200, else 1. The connection uses no proxy."""
    port = int(os.environ.get("DIGITLAB_PORT") or 8000)
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"The API does not answer at port {port}: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
