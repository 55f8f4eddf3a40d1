"""Output of the commands: plain text, without markup and without characters that control the terminal."""

from __future__ import annotations

import io
import sys
from typing import Any

import typer
from rich.console import Console
from rich.progress import ProgressColumn, Task
from rich.text import Text

from app.visible import visible


class Terminal(Console):
    """A console whose strings, in tables too, are never markup; control characters in them are replaced."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def say(self, text: str = "") -> None:
        """Print one line, however long."""
        self.print(text, soft_wrap=True)


class PlainColumn(ProgressColumn):
    """A column with a progress bar's description or one of its fields, without markup and on one line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        text = task.description if self._name == "description" else task.fields[self._name]
        return Text(visible(str(text)), no_wrap=True)


def complain(*lines: str) -> None:
    """Print error messages on standard error."""
    for line in lines:
        typer.secho(visible(line), err=True, fg="red")


def replace_unknown_characters() -> None:
    """Print a replacement for characters that the terminal's encoding lacks; Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
