"""The commands in the pages could be run: `digitlab` knows them, and the API has what `curl` asks for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

from app.cli import cli
from app.main import create_app
from app.settings import Settings
from tests.docs.pages import PAGES, blocks, inline_code, read
from tests.docs.shell_commands import commands

SHELL = [
    (page.name, words) for page in PAGES for block in blocks(page.read_text("utf-8"), "sh") for words in commands(block)
]
DIGITLAB: Any = typer.main.get_command(cli)
PATHS = create_app(Settings()).openapi()["paths"]
# Options of curl that the pages use: with a value, and without.
WITH_VALUE = {"-X", "-H", "-d", "-F", "-o", "-D", "--data-binary"}
WITHOUT = {"-s", "-sN"}
BODIES = {"-d", "-F", "--data-binary"}


def in_blocks(program: str) -> list[tuple[str, list[str]]]:
    return [(page, words[1:]) for page, words in SHELL if Path(words[0]).name == program]


def in_text(program: str) -> list[tuple[str, list[str]]]:
    """Commands in backticks; `digitlab up` as a mere name is one too."""
    return [
        (page.name, shlex.split(code)[1:])
        for page in PAGES
        for code in inline_code(page.read_text("utf-8"))
        if code.startswith(f"{program} ")
    ]


def parse(arguments: list[str]) -> None:
    """Let the command line parse this, and do nothing.

    Raises:
        KeyError: There is no such command.
        TyperException: There is no such option, or an argument is missing.
    """
    name, *rest = arguments
    DIGITLAB.commands[name].make_context(name, rest)


def find_operation(arguments: list[str]) -> tuple[str, str]:
    """The method and the path that a call of curl asks for, without its query."""
    method, has_body, urls = None, False, []
    words = iter(arguments)
    for word in words:
        if word in WITH_VALUE:
            value = next(words)
            method = value if word == "-X" else method
            has_body |= word in BODIES
        elif word.startswith("-"):
            assert word in WITHOUT, f"add {word} to this test"
        else:
            urls.append(word)
    (url,) = urls
    path = re.match(r"(?:\$url|http://127\.0\.0\.1:\d+)(/[^?]*)", url)
    assert path is not None, url
    return method or ("POST" if has_body else "GET"), path[1]


def exists(method: str, path: str) -> bool:
    """Whether a template of the OpenAPI document has this method and fits the path, `{name}` any segment of it."""
    return any(
        re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods
        for template, methods in PATHS.items()
    )


@pytest.mark.parametrize(("page", "arguments"), in_blocks("digitlab"))
def test_digitlab_knows_the_commands_of_blocks(page: str, arguments: list[str]) -> None:  # noqa: ARG001
    parse(arguments)


@pytest.mark.parametrize(("page", "arguments"), in_text("digitlab"))
def test_digitlab_knows_the_commands_of_texts(page: str, arguments: list[str]) -> None:  # noqa: ARG001
    if len(arguments) == 1:  # named, not to be run as it stands
        assert arguments[0] in DIGITLAB.commands
    else:
        parse(arguments)


@pytest.mark.parametrize(("page", "arguments"), in_blocks("curl"))
def test_the_api_has_what_curl_asks_for(page: str, arguments: list[str]) -> None:  # noqa: ARG001
    method, path = find_operation(arguments)
    assert exists(method, path), f"{method} {path}"


def test_the_pages_have_commands() -> None:
    assert len(in_blocks("digitlab")) > 10
    assert len(in_blocks("curl")) > 30


@pytest.mark.parametrize("arguments", [["no-command"], ["train", "--no-option"], ["report"]])
def test_a_wrong_command_is_found(arguments: list[str]) -> None:
    with pytest.raises((KeyError, TyperException)):
        parse(arguments)


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("PUT", "/runs"), ("GET", "/runs/a/b/c")])
def test_a_wrong_request_is_found(method: str, path: str) -> None:
    assert not exists(method, path)


def test_the_two_commands_stand_in_the_readme() -> None:
    """CI reads the second one from there."""
    lines = [line for line in read("README.md").splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert [line.rpartition(" && ")[2] for line in lines] == [
        ".venv/bin/digitlab up",
        ".venv/bin/pytest -n auto --dist loadgroup",
    ]
