"""Settings as users write them into environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from typer.testing import CliRunner

from app.cli import cli
from app.cli.client import Client
from app.database import Database, migrate
from app.settings import Settings


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("", []),
        (" ", []),
        ("[]", []),
        ('["http://localhost:5173"]', ["http://localhost:5173"]),
        ('["http://localhost:5173/", "https://a.example"]', ["http://localhost:5173", "https://a.example"]),
        ('["*"]', ["*"]),
    ],
)
def test_origins_are_a_json_list(monkeypatch: pytest.MonkeyPatch, written: str, origins: list[str]) -> None:
    monkeypatch.setenv("DIGITLAB_CORS_ORIGINS", written)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize(
    "written",
    [
        "http://localhost:5173",
        "[",
        "{}",
        "[1]",
        '["localhost"]',
        '["http://a.example/app"]',
        '["http://*.example"]',
        '["HTTP://A.example"]',
        '[""]',
        "null",
    ],
)
def test_other_origins_are_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("DIGITLAB_CORS_ORIGINS", written)
    with pytest.raises(ValidationError):
        Settings()
    result = CliRunner().invoke(cli, ["migrate"])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        'DIGITLAB_CORS_ORIGINS: write a JSON list of origins, as in ["http://localhost:5173"]'
    ]


@pytest.mark.parametrize("name", ["a%20b", "what?x=1", "a#b", "ü:@/c", "%", "a b"])
def test_a_folder_is_the_one_that_was_named(tmp_path: Path, name: str) -> None:
    settings = Settings(data_dir=tmp_path / name)
    database = Database(settings.resolved_database_url)
    migrate(database)
    with database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM alembic_version")) == 1
    database.close()
    assert (tmp_path / name / "digitlab.db").stat().st_size > 0
    assert [path for path in tmp_path.rglob("*.db*") if not path.is_relative_to(tmp_path / name)] == []


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DIGITLAB_DATA_DIR", "~/digits")
    assert Settings().data_dir == tmp_path / "digits"


def test_white_space_around_a_key_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITLAB_API_KEY", " secret-0123456789\r\n")
    assert Client("http://127.0.0.1:1")._http.headers["authorization"] == "Bearer secret-0123456789"


@pytest.mark.parametrize("key", ["secret\r-0123456789", "sécret-0123456789", "secret 0123456789", "secret\x00"])
def test_an_impossible_key_is_refused_and_not_told(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("os.environ", {"DIGITLAB_API_KEY": key})  # a real environment cannot hold a NUL
    result = CliRunner().invoke(cli, ["show", "x"])
    assert result.exit_code == 1
    assert "DIGITLAB_API_KEY" in result.output
    assert "cret" not in result.output
