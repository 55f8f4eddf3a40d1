"""`digitlab api`: uvicorn with this application, in one process or several."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import typer
import uvicorn
from uvicorn.supervisors import Multiprocess

from app import lifeline
from app.http.protocol import BoundedConfig
from app.instruments import MULTIPROCESS_FOLDER
from app.logs import configure_logging
from app.opening import Unusable, open_database
from app.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048  # uvicorn's default
SPARE_FILES = 256  # open files beside one for each connection: the database, the event loop, …


def check_address(settings: Settings, say: Callable[[str], object]) -> None:
    """Refuse to listen beyond this machine without keys, unless the settings allow it explicitly."""
    if not settings.is_loopback and not settings.keys and not settings.allow_unauthenticated:
        say(
            f"{settings.host} can be reached from other machines, and everyone there could use the service. "
            "Set DIGITLAB_API_KEYS; or, if that is meant, add --allow-unauthenticated true."
        )
        raise typer.Exit(2)


class CannotListen(Exception):
    """The service cannot listen on its address; the message is a sentence for the user."""


def resolve(settings: Settings) -> list[tuple[Any, ...]]:
    """Return the addresses of the host, as `socket.getaddrinfo` returns them.

    Raises:
        CannotListen: The host has no address.
    """
    try:
        return socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise CannotListen(f"{settings.host} is no address of this machine ({why}): choose another --host.") from None


def listen(settings: Settings) -> list[socket.socket]:
    """Listen on every address of the host, all on the same port; port 0 stands for any free one.

    Raises:
        CannotListen: The host or the port cannot be listened on.
    """
    found = resolve(settings)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, (address, *rest) in dict.fromkeys(found):
            port = sockets[0].getsockname()[1] if sockets else settings.port
            try:
                sockets.append(_listen_on(family, (address, port, *rest[1:])))
            except OSError as error:
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # no IPv6
                    raise
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise CannotListen(_explain(error, settings)) from None
    return sockets


def _listen_on(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # Windows would let two processes listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # at once: on Linux two processes may bind one port, but only one may listen
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener


def _explain(error: OSError, settings: Settings) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Something listens on {authority(settings.host, settings.port)} already; choose another --port."
    if error.errno == errno.EACCES:
        return f"This user may not listen on port {settings.port}: choose another --port, from 1024 up."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{settings.host} is no address of this machine: choose another --host."
    where = authority(settings.host, settings.port)
    return f"Nothing can listen on {where}: {error.strerror or error}."


def authority(host: str, port: int) -> str:
    """Return host and port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """Announces its URL once it accepts requests."""

    def __init__(self, config: BoundedConfig, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            logger.info("Listening on %s", self._url)
            lifeline.announce(self._url)


def serve(settings: Settings, num_processes: int, complain: Callable[[str], object]) -> None:
    """Serve requests until SIGINT or SIGTERM; requests in flight get 10 s to finish.

    `complain` reports wrong settings to the user of a terminal; if logs are JSON, the log reports them.
    """
    configure_logging("api", settings.log_format)
    lifeline.hold_on()
    try:
        resolve(settings)
        check_address(settings, logger.error if settings.log_format == "json" else complain)
        open_database(settings).close()
        sockets = listen(settings)
    except (Unusable, CannotListen) as error:
        logger.error("%s", error)
        raise typer.Exit(1) from None
    port = sockets[0].getsockname()[1]
    url = f"http://{authority(settings.host, port)}"
    _allow_files(settings.max_connections + SPARE_FILES)
    config = BoundedConfig(
        "app.main:create_from_environment",
        factory=True,
        host=settings.host,
        port=port,
        backlog=BACKLOG,
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
        logger.info("Listening on %s", url)
        _serve_together(config, sockets)
        return
    server = Server(config, url)
    server.run(sockets)
    if not server.started:
        raise typer.Exit(1)


def _serve_together(config: BoundedConfig, sockets: list[socket.socket]) -> None:
    """Run several processes on the same sockets; a process that dies is replaced."""
    with TemporaryDirectory(prefix="digitlab-metrics-") as folder:
        os.environ[MULTIPROCESS_FOLDER] = folder
        Multiprocess(config, sockets=sockets).run()


def _allow_files(number: int) -> None:
    """Raise the process's limit of open files to `number`, or as far as the hard limit allows."""
    if sys.platform == "win32":  # Windows has no such limit
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
