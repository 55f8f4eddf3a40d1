"""`digitlab backup`: the copy is a complete snapshot of one moment, even while other processes write."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.database import Database
from app.settings import Settings
from tests.app.events.test_events import record

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def back_up(settings: Settings, file: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["backup", str(file), "--data-dir", str(settings.data_dir), *options])
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITLAB_DATA_DIR", "")  # the command's option sets this variable; monkeypatch restores it


def test_a_copy_taken_while_others_write_is_of_one_moment(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            record(database, "a", "b", "c")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            assert back_up(settings, tmp_path / f"{number}.db")[0] == 0
    finally:
        done.set()
        writer.join()
    counts = []
    for number in range(5):
        with closing(sqlite3.connect(tmp_path / f"{number}.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (count,) = copy.execute("SELECT count(*) FROM events").fetchone()
            assert copy.execute("SELECT last_event_id FROM event_counter").fetchone() == (count,)
            assert count % 3 == 0
            counts.append(count)
    assert counts == sorted(counts)
    assert counts[-1] > 0
    assert not list(tmp_path.glob("*.partial"))


def test_the_service_goes_on_from_a_copy(settings: Settings, database: Database, tmp_path: Path) -> None:
    record(database, "a")
    file = tmp_path / "elsewhere" / "digitlab.db"
    file.parent.mkdir()
    assert back_up(settings, file)[0] == 0
    copy = Database(Settings(data_dir=file.parent).resolved_database_url)
    record(copy, "b")
    with copy.reading() as session:
        from sqlalchemy import text

        assert session.scalar(text("SELECT last_event_id FROM event_counter")) == 2
    copy.close()


@pytest.mark.usefixtures("database")
def test_a_file_that_exists_is_replaced_on_request_only(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    file.write_text("precious")
    code, output = back_up(settings, file)
    assert (code, file.read_text()) == (1, "precious")
    assert "--overwrite" in output
    assert back_up(settings, file, "--overwrite")[0] == 0
    assert file.read_bytes().startswith(b"SQLite format 3")


@pytest.mark.usefixtures("database")
def test_another_database_in_use_is_never_overwritten(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("CREATE TABLE precious (id)")
        assert "in use" in back_up(settings, file, "--overwrite")[1]


@pytest.mark.usefixtures("database")
def test_the_database_itself_is_never_overwritten(settings: Settings) -> None:
    file = settings.data_dir / "digitlab.db"
    before = file.read_bytes()
    assert back_up(settings, file, "--overwrite")[0] == 1
    assert file.read_bytes() == before


@pytest.mark.usefixtures("database")
def test_without_a_database_or_a_folder_it_says_so(settings: Settings, tmp_path: Path) -> None:
    assert "No backup" in back_up(settings, tmp_path / "nowhere" / "copy.db")[1]
    empty = settings.model_copy(update={"data_dir": tmp_path / "empty"})
    code, output = back_up(empty, tmp_path / "copy.db")
    assert code == 1
    assert "no database" in output
    assert not (tmp_path / "copy.db").exists()


def test_postgres_has_its_own_tool(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITLAB_DATABASE_URL", "")
    code, output = back_up(settings, tmp_path / "copy.db", "--database-url", "postgresql+psycopg://127.0.0.1/none")
    assert code == 1
    assert "pg_dump" in output


@pytest.mark.usefixtures("database")
def test_only_ordinary_files_are_replaced(settings: Settings, tmp_path: Path) -> None:
    live = settings.data_dir / "digitlab.db"
    folder, fifo, link, circle = (tmp_path / name for name in ("folder", "fifo", "link", "circle"))
    folder.mkdir()
    os.mkfifo(fifo)
    link.symlink_to(live)
    circle.symlink_to(circle)
    (tmp_path / "hard").hardlink_to(live)
    for file in ("/dev/full", "/dev/null", "-", "./-", *map(str, (folder, fifo, link, circle, tmp_path / "hard"))):
        code, output = back_up(settings, Path(file), "--overwrite")
        assert (code, len(output.splitlines())) == (1, 1), file
    for suffix in ("", "-wal", "-shm", "-journal"):
        assert back_up(settings, Path(f"{live}{suffix}"), "--overwrite")[0] == 1
    assert Path("/dev/full").is_char_device()
    assert fifo.is_fifo()
    assert not Path("-").exists()
    assert live.read_bytes().startswith(b"SQLite format 3")
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.usefixtures("database")
def test_a_link_stays_and_leads_to_the_copy(settings: Settings, tmp_path: Path) -> None:
    link, target, other = tmp_path / "link", tmp_path / "target", tmp_path / "target.partial"
    link.symlink_to(target)
    other.write_text("precious")
    for options in ((), ("--overwrite",)):
        assert back_up(settings, link, *options)[0] == 0
        assert link.is_symlink()
        assert target.read_bytes().startswith(b"SQLite format 3")
    assert other.read_text() == "precious"
