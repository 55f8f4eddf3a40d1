"""`digitlab api`: uvicorn with this application."""

from __future__ import annotations

import socket

import typer
import uvicorn
from fastapi import FastAPI

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


class Server(uvicorn.Server):
    """Ends the event streams when it is told to stop: they would go on for ever otherwise."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.feed.close()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Answer requests until SIGINT or SIGTERM; requests in flight are finished."""
    check_address(settings)
    configure_logging("api", settings.log_format)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = Server(app, config)
    server.run()
    if not server.started:
        raise typer.Exit(1)
