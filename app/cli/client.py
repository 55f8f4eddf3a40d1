"""What the client commands share: requests to the service, and reading a JSON file."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx2
import typer

from app.cli.terminal import complain

TIMEOUT_SECONDS = 30
EXAMPLE = "http://127.0.0.1:8000"
# The errors that reading another program's JSON raises.
_MISREAD = (LookupError, TypeError, ValueError, AttributeError)


# Statuses that refuse this body, and say nothing of the next one.
_OF_THE_BODY = (400, 413, 415, 422)


class Refused(typer.Exit):
    """The service refuses a request for its body; the message has been printed."""


class Client:
    """A connection to a running service. A failed request prints a message on standard error and ends the command.

    The context manager also ends a command that cannot read a response, such as another program's JSON.
    """

    def __init__(self, url: str) -> None:
        key = os.environ.get("DIGITLAB_API_KEY", "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", key):  # httpx2 would refuse such a key and print it
            give_up("DIGITLAB_API_KEY holds what no key does: a key is printable ASCII without spaces.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        base = _parse(url)
        self._where = f"{base.scheme}://{base.netloc.decode('ascii')}{base.path.rstrip('/')}"
        self._proxy = _find_proxy(base)
        self._http = httpx2.Client(
            base_url=base,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,  # `_find_proxy` finds proxies, `_make_transport` certificates
            transport=_make_transport(base, self._proxy),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._http.close()
        if isinstance(error, _MISREAD):
            what = f"{type(error).__name__}: {error}"
            give_up(f"{self._where} answers with JSON that is not this version of digitlab's ({what}).")

    def call(
        self,
        method: str,
        *path: str,
        document: Any = None,
        file: tuple[str, bytes] | None = None,
        params: Mapping[str, Any] | None = None,
        about: str = "",
    ) -> Any:
        """Send a request and return its JSON response.

        Args:
            method: HTTP method, as in `GET`.
            path: Segments of the URL's path; a user may have typed them.
            document: Body of the request, sent as it is, even with values that the service rejects, as NaN.
            file: Media type and content of a file to send instead.
            params: Query of the URL.
            about: What a message about a failure begins with.

        Raises:
            Refused: The body is wrong; a command that has others goes on with these.
        """
        if document is not None:
            file = "application/json", json.dumps(document).encode()
        media_type, content = file or ("", None)
        headers = {"Content-Type": media_type} if media_type else {}
        try:
            response = self._http.request(
                method, "/".join(map(_segment, path)), content=content, params=params, headers=headers
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, OverflowError) as error:
            by_proxy = f" through the proxy {_without_password(self._proxy)}" if self._proxy else ""
            give_up(f"{self._where} cannot be asked{by_proxy}: {_explain(error, self._http.base_url.host)}")
        if response.is_redirect:
            location = response.headers.get("location", "elsewhere")
            give_up(f"{self._where} redirects to {location}: name the service itself by --url or DIGITLAB_URL.")
        if not response.is_success:
            first, *places = self._read_problem(response)
            complain(f"{about}{first}", *places)
            raise Refused(1) if response.status_code in _OF_THE_BODY else typer.Exit(1)
        try:
            return response.json()
        except (ValueError, RecursionError):
            give_up(f"{self._where} answers with {_kind(response)} where digitlab answers with JSON. Is --url right?")

    def _read_problem(self, response: httpx2.Response) -> list[str]:
        try:
            problem = response.json()
            places = [f"  {each['pointer']}: {each['detail']}" for each in problem.get("errors", [])]
            return [f"{problem['title']} ({problem['status']}): {problem['detail']}", *places]
        except (*_MISREAD, RecursionError):
            status = f"{response.status_code} {response.reason_phrase}".rstrip()
            return [f"{self._where} answers {status}, with {_kind(response)} that is not digitlab's. Is --url right?"]


def give_up(*lines: str) -> NoReturn:
    """End the command with a message."""
    complain(*lines)
    raise typer.Exit(1)


def read_json(file: Path) -> Any:
    """Return a JSON file's content, in UTF-8 or as PowerShell writes it; `-` reads standard input."""
    return parse_json(file, read_file(file))


def read_file(file: Path) -> bytes:
    """Return a file's content; `-` reads standard input. A file that cannot be read ends the command."""
    if str(file) == "-" and sys.stdin is None:
        complain("-: standard input is closed")
        raise typer.Exit(2)
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        complain(f"{file}: {error.strerror or error}")
    raise typer.Exit(2)


def parse_json(file: Path, content: bytes) -> Any:
    """Parse a file's content; what is not JSON ends the command."""
    try:
        return json.loads(content)
    except RecursionError:
        why = "it is nested too deeply"
    except ValueError as error:
        why = f"this is not JSON: {error}"
    complain(f"{file}: {why}")
    raise typer.Exit(2)


def _parse(url: str) -> httpx2.URL:
    try:
        base = httpx2.URL(url.strip())
        if base.scheme in ("http", "https") and base.host and (base.port is None or 0 < base.port < 65536):
            return base.copy_with(query=None, fragment=None)
        why = ""
    except (httpx2.InvalidURL, ValueError) as error:
        why = f" ({error})"
    give_up(f"{url or 'An empty text'} is no address of a service{why}: write it as in {EXAMPLE}.")


def _make_transport(url: httpx2.URL, proxy: str | None) -> httpx2.HTTPTransport:
    try:
        # Plain HTTP needs no certificates: reading them takes a while, and may fail.
        verify = httpx2.create_ssl_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except OSError as error:  # includes ssl.SSLError
        given = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ]
        give_up(f"The certificates to check {url.host} by cannot be read ({', '.join([*given, str(error)])}).")
    try:
        return httpx2.HTTPTransport(verify=verify, proxy=proxy, trust_env=False)
    except ImportError:
        why = "SOCKS needs one more package: pip install socksio"
    except (httpx2.InvalidURL, ValueError) as error:
        why = str(error)
    give_up(f"The proxy {_without_password(proxy)} cannot be used ({why}); NO_PROXY={url.host} does without it.")


def _find_proxy(url: httpx2.URL) -> str | None:
    """Return the environment's proxy for this address; requests to this machine itself never use a proxy."""
    if _is_loopback(url.host) or proxy_bypass(url.netloc.decode("ascii")):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))  # 127.1 too
    except (OSError, ValueError):
        return False
    return address.is_loopback or address.is_unspecified


def _without_password(proxy: str | None) -> str:
    return re.sub(r"//[^/]*@", "//", proxy or "")


def _segment(part: str) -> str:
    """Quote a segment of a path, and reject slashes: the service decodes a path before it looks for the route."""
    if not part.strip(".") or re.search(r"[/\\]", part):
        give_up(f"There is no '{part}': an id is not empty, and has no slashes.")
    return quote(part, safe="", errors="replace")


def _explain(error: Exception, host: str) -> str:
    """Explain why there is no response, by the first cause that is known."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS fails ({cause.reason or cause}); is it http:// rather than https://?"
        if isinstance(cause, socket.gaierror):
            return f"the name {host} cannot be resolved ({cause.strerror})"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there; is the service running (digitlab up)?"
        if isinstance(cause, httpx2.TimeoutException):
            return f"it does not answer within {TIMEOUT_SECONDS} seconds"
    if isinstance(error, httpx2.RemoteProtocolError):
        return f"what answers is not HTTP, or breaks off ({error})"
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _kind(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip() or "a body of no declared type"
