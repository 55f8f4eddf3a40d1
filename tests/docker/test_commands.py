"""There may be no Docker engine here; the commands that the images run are tested without one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli

DOCKER = Path(__file__).parents[2] / "docker"


def commands() -> list[list[str]]:
    found = [
        json.loads(command)
        for file in sorted(DOCKER.glob("*.Dockerfile"))
        for command in re.findall(r"^CMD (.*)$", file.read_text(), re.MULTILINE)
    ]
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found + [service["command"] for service in compose["services"].values() if "command" in service]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_container_runs_a_command_that_exists(command: list[str]) -> None:
    program, *arguments = command
    assert program == "digitlab"
    result = CliRunner().invoke(cli, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def test_all_three_commands_are_covered() -> None:
    assert sorted(command[1] for command in commands()) == ["api", "migrate", "worker"]
