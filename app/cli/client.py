"""What the client commands share: talking to the service, reading a JSON file."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import typer


class Client:
    """A running service. Problem bodies become messages on standard error and end the command."""

    def __init__(self, url: str) -> None:
        key = os.environ.get("DIGITLAB_API_KEY", "").strip()
        if not re.fullmatch(r"[\x21-\x7e]*", key):  # never printed: neither here nor by httpx2, which would refuse it
            self._give_up("DIGITLAB_API_KEY holds what no key does: a key is printable ASCII without spaces.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=30)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON answer to a request."""
        try:
            response = self._http.request(method, path, **arguments)
        except httpx2.HTTPError as error:
            self._give_up(f"{self._http.base_url} does not answer ({error}). Is the service running (digitlab up)?")
        if response.is_error:
            self._give_up(_problem(response))
        return response.json()

    def _give_up(self, message: str) -> NoReturn:
        typer.secho(message, err=True, fg="red")
        raise typer.Exit(1)


def _problem(response: httpx2.Response) -> str:
    try:
        problem = response.json()
        places = [f"  {each['pointer']}: {each['detail']}" for each in problem.get("errors", [])]
        return "\n".join([f"{problem['title']} ({problem['status']}): {problem['detail']}", *places])
    except (ValueError, KeyError):
        return f"The service answered {response.status_code}."


def read_json(file: Path) -> Any:
    """A JSON file's content; `-` reads standard input."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        return json.loads(text)
    except (OSError, ValueError) as error:
        typer.secho(f"{file}: {error}", err=True, fg="red")
        raise typer.Exit(2) from None
