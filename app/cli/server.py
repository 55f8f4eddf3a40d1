"""`digitlab api`: uvicorn with this application."""

from __future__ import annotations

import typer
import uvicorn

from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings


def check_address(settings: Settings) -> None:
    """Refuse to listen beyond this machine unless the settings say that this is meant."""
    if not settings.is_loopback and not settings.allow_unauthenticated:
        typer.secho(
            f"{settings.host} can be reached from other machines, and everyone there could use the service. "
            "If that is meant, add --allow-unauthenticated true.",
            err=True,
            fg="red",
        )
        raise typer.Exit(2)


def serve(settings: Settings) -> None:
    """Answer requests until SIGINT or SIGTERM; requests in flight are finished."""
    check_address(settings)
    configure_logging("api")
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        raise typer.Exit(1)
