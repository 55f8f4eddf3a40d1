"""`digitlab api`: uvicorn with this application, in one process or several."""

from __future__ import annotations

import os
import sys
from tempfile import TemporaryDirectory

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from app import lifeline
from app.cli.protocol import BoundedConfig
from app.instruments import MULTIPROCESS_FOLDER
from app.logs import configure_logging
from app.settings import Settings

SPARE_FILES = 256  # beside one for each connection: the database, the event loop, …


def check_address(settings: Settings) -> None:
    """Refuse to listen beyond this machine without keys, unless the settings say that this is meant."""
    if not settings.is_loopback and not settings.keys and not settings.allow_unauthenticated:
        typer.secho(
            f"{settings.host} can be reached from other machines, and everyone there could use the service. "
            "Set DIGITLAB_API_KEYS; or, if that is meant, add --allow-unauthenticated true.",
            err=True,
            fg="red",
        )
        raise typer.Exit(2)


def serve(settings: Settings, num_processes: int) -> None:
    """Answer requests until SIGINT or SIGTERM; requests in flight are finished."""
    check_address(settings)
    configure_logging("api", settings.log_format)
    lifeline.hold_on()
    _allow_files(settings.max_connections + SPARE_FILES)
    config = BoundedConfig(
        "app.main:create_from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=num_processes,
        max_header_bytes=settings.max_header_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_connections=settings.max_connections,
        timeout_seconds=settings.request_timeout_seconds,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    if num_processes > 1:
        _serve_together(config)
        return
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise typer.Exit(1)


def _serve_together(config: BoundedConfig) -> None:
    """Several processes on one socket; one that dies is replaced."""
    with TemporaryDirectory(prefix="digitlab-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder
        Multiprocess(config, sockets=[config.bind_socket()]).run()


def _allow_files(number: int) -> None:
    """Raise the process's limit of open files, as far as it may."""
    if sys.platform == "win32":  # which has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
