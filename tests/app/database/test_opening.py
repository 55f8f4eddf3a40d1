"""Unusable databases, hosts and ports: each process explains the problem in one sentence and ends."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from shutil import copyfile

import psycopg
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from app import lifeline
from app.cli import cli
from app.database import Database
from app.http.server import CannotListen, authority, listen
from app.logs import configure_logging
from app.opening import Unusable, open_database, open_migrated
from app.settings import Settings
from workers.__main__ import main as work

Break = Callable[[Path, Path], None]  # receives the data folder and the file of a migrated database


def _execute(file: Path, *statements: str) -> None:
    file.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _copy(folder: Path, migrated: Path) -> Path:
    folder.mkdir()
    copyfile(migrated, folder / "digitlab.db")
    return folder / "digitlab.db"


def _be_a_file(folder: Path, _: Path) -> None:
    folder.write_text("not a folder")


def _hold_a_folder(folder: Path, _: Path) -> None:
    (folder / "digitlab.db").mkdir(parents=True)


def _be_of_a_newer_version(folder: Path, migrated: Path) -> None:
    _execute(_copy(folder, migrated), "UPDATE alembic_version SET version_num = '9999'")


def _be_of_another_program(folder: Path, _: Path) -> None:
    _execute(folder / "digitlab.db", "CREATE TABLE bookmarks (id)")


def _be_migrated_by_another_program(folder: Path, _: Path) -> None:
    statements = ("CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('ab12cd')")
    _execute(folder / "digitlab.db", "CREATE TABLE bookmarks (id)", *statements)


def _be_text(folder: Path, _: Path) -> None:
    folder.mkdir()
    (folder / "digitlab.db").write_text("no database, " * 100)


def _be_torn(folder: Path, migrated: Path) -> None:
    file = _copy(folder, migrated)
    file.write_bytes(file.read_bytes()[:100] + b"\xff" * 4000)


BROKEN: list[tuple[Break, str]] = [
    (_be_a_file, "is a file, where the data folder should be"),
    (_hold_a_folder, "is a folder, where the database's file should be"),
    (_be_of_a_newer_version, "was made by a newer version of digitlab (migration 9999)"),
    (_be_of_another_program, "is another program's database"),
    (_be_migrated_by_another_program, "is another program's database (migration ab12cd)"),
    (_be_text, "is damaged, or no SQLite database"),
    (_be_torn, "is damaged, or no SQLite database"),
]

URLS = [
    ("sqlite://", "a database in memory"),
    ("sqlite:///:memory:", "a database in memory"),
    ("sqlite:///file:x?mode=memory&uri=true", "a database in memory"),
    ("nonsense", "is no database's URL"),
    ("postgresql+psycopg://me:secret@host:port/x", "is no database's URL"),
    ("mysql+pymysql://me:secret@host/x", "names 'mysql'"),
    ("postgresql+nodriver://me:secret@host/x", "The driver of 'postgresql+nodriver' is missing"),
    ("postgresql+pg8000://me:secret@host/x", "The driver of 'postgresql+pg8000' is missing"),
    ("sqlite:////proc/nowhere/digitlab.db", "/proc/nowhere/digitlab.db"),
]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore everything that commands change in their own process."""
    for name in Settings.model_fields:
        monkeypatch.setenv(f"DIGITLAB_{name.upper()}", "")
        monkeypatch.delenv(f"DIGITLAB_{name.upper()}")
    for place in (sys, threading):
        monkeypatch.setattr(place, "excepthook", place.excepthook)
    monkeypatch.setattr(lifeline, "_is_held", False)
    up = import_module("app.cli.up")  # the package also exports a command named `up`
    monkeypatch.setattr(up, "_log_format", "text")
    monkeypatch.setenv("DIGITLAB_PORT", "0")
    yield
    logging.captureWarnings(False)


def say(command: str, caplog: pytest.LogCaptureFixture) -> str:
    """Run a process that must fail; return the single line that it reports."""
    caplog.clear()
    if command == "worker":
        code, said = work(), ""
    else:
        result = CliRunner().invoke(cli, [command])
        assert isinstance(result.exception, SystemExit), result.exception
        code, said = result.exit_code, result.stderr
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    (line,) = [*said.splitlines(), *messages]
    assert code == 1
    assert "secret" not in line
    return line


@pytest.mark.parametrize(("break_it", "said"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_database_that_will_never_do(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    migrated_file: Path,
    break_it: Break,
    said: str,
) -> None:
    folder = tmp_path / "data"
    break_it(folder, migrated_file)
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(folder))
    file = folder / "digitlab.db"
    before = file.read_bytes() if file.is_file() else b""
    for command in ("migrate", "up", "api", "worker"):
        assert said in say(command, caplog)
    assert (file.read_bytes() if file.is_file() else b"") == before


@pytest.mark.parametrize(("url", "said"), URLS)
def test_a_url_that_will_never_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str, said: str
) -> None:
    monkeypatch.setenv("DIGITLAB_DATABASE_URL", url)
    for command in ("migrate", "up", "api", "worker"):
        assert said in say(command, caplog)


def test_a_folder_that_this_user_may_not_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # tests may run as root, which may write everywhere
    with pytest.raises(Unusable, match="cannot be written to by this user"):
        open_database(Settings(data_dir=tmp_path / "data"))


def test_a_database_that_is_to_be_migrated_yet_is_no_obstacle(tmp_path: Path, migrated_file: Path) -> None:
    open_database(Settings(data_dir=tmp_path / "new")).close()
    _execute(_copy(tmp_path / "old", migrated_file), "UPDATE alembic_version SET version_num = '0003'")
    open_database(Settings(data_dir=tmp_path / "old")).close()
    (tmp_path / "old" / "digitlab.db").write_bytes(b"")
    open_database(Settings(data_dir=tmp_path / "old")).close()
    open_database(Settings(database_url="postgresql+psycopg://127.0.0.1:1/none")).close()


@pytest.mark.parametrize(("revision", "said"), [("9999", "newer version")])
def test_a_database_of_a_newer_version(settings: Settings, database: Database, revision: str, said: str) -> None:
    open_migrated(settings).close()
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(Unusable, match=said):
        open_database(settings)
    with database.writing() as session:
        session.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(Unusable, match="another program's database"):
        open_migrated(settings)


def test_a_host_or_a_port_that_will_never_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIGITLAB_DATA_DIR", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for host, wanted, said in (
            ("nohost.invalid", "0", "nohost.invalid is no address of this machine"),
            ("203.0.113.1", "0", "203.0.113.1 is no address of this machine"),
            ("a" * 70, "0", "is no address of this machine"),
            ("127.0.0.1", port, f"Something listens on 127.0.0.1:{port} already"),
        ):
            if host == "203.0.113.1":  # looks like another machine's address until it is tried
                monkeypatch.setenv("DIGITLAB_ALLOW_UNAUTHENTICATED", "true")
            monkeypatch.setenv("DIGITLAB_HOST", host)
            monkeypatch.setenv("DIGITLAB_PORT", wanted)
            for command in ("up", "api"):
                assert said in say(command, caplog)


def test_a_port_for_the_administrator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("app.http.server._listen_on", refuse)
    with pytest.raises(CannotListen, match="may not listen on port 80: choose another --port"):
        listen(Settings(port=80))


def test_all_addresses_of_a_host_share_a_port() -> None:
    sockets = listen(Settings(host="localhost", port=0))
    assert len({listener.getsockname()[1] for listener in sockets}) == 1
    assert sockets[0].getsockname()[1] > 0
    for listener in sockets:
        listener.close()


def test_urls_have_brackets_around_ipv6() -> None:
    assert [authority(host, 1) for host in ("::1", "127.0.0.1", "a")] == ["[::1]:1", "127.0.0.1:1", "a:1"]


@pytest.mark.parametrize("names", ["digits.example", "Digits.example., api,_x", "*", "", " ", "10.0.0.1,::1,[::1]"])
def test_names_of_the_service(names: str) -> None:
    assert Settings(allowed_hosts=names).allowed_hosts == names


@pytest.mark.parametrize(
    "names", ["digits.example:8000", "http://a", "a,,b", "a,", ",", "a b", "*.example", "ü.example", "a/", "-a", "a..b"]
)
def test_other_names_of_the_service_are_refused(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv("DIGITLAB_ALLOWED_HOSTS", names)
    result = CliRunner().invoke(cli, ["migrate"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith("DIGITLAB_ALLOWED_HOSTS: write names separated by commas")


def test_a_worker_names_wrong_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DIGITLAB_PORT", "70000")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert work() == 2
    assert "NUMBA_DISABLE_JIT" not in os.environ  # or the trainer's kernels would not be compiled
    assert capsys.readouterr().err.startswith("DIGITLAB_PORT: ")


def test_wrong_settings_are_json_where_logs_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIGITLAB_LOG_FORMAT", "json")
    monkeypatch.setenv("DIGITLAB_PORT", "70000")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert work() == 2
    record = json.loads(capsys.readouterr().err.splitlines()[0])
    assert record["message"].startswith("DIGITLAB_PORT: ")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_record_is_one_line_that_controls_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    configure_logging("api", log_format)
    hostile = "\x1b[2J\x9b\u202e\r\n2026-11-27 00:00:00 INFO    api     forged"
    logging.error("name %s", hostile)
    try:
        raise ValueError(hostile)
    except ValueError:
        logging.exception("failed")
    lines = capsys.readouterr().err.split("\n")
    assert not any(set("\x1b\x9b\u202e\r") & set(line) for line in lines)
    if log_format == "json":
        first, second, _ = lines
        assert json.loads(first)["message"] == f"name {hostile}"
        assert hostile in json.loads(second)["exc_info"]
    else:
        assert [line for line in lines if line and not line.startswith("    ")] == lines[:2]
        assert "ERROR" in lines[0]
        assert "ERROR" in lines[1]


def test_a_connection_in_use_is_closed_when_it_comes_back_to_a_closed_database(settings: Settings) -> None:
    database = Database(settings.resolved_database_url)
    with database.reading() as session:
        connection = session.connection().connection.dbapi_connection
        database.close()
        assert session.scalar(text("select 1")) == 1
    assert connection is not None
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError)):
        connection.cursor().execute("select 1")
