"""The client commands, against odd responses of the service or another program and odd texts of users."""

from __future__ import annotations

import io
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner, Result

from app.cli import cli, main
from app.cli.client import read_file, read_json
from app.cli.inspect import draw_curve
from app.cli.sweep import _conclusions, _effects_table, _points_table
from app.cli.train import describe, progress_columns
from app.database import Database
from app.parameter_names import parameter_names
from app.tables import Metric, RunStatus
from tests.app.pictures.files import encode, seven
from tests.app.sweeps.test_sweeps import finish, runs_of
from tests.conftest import AddModel, AddRun, TestClient

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

Invoke = Callable[..., Result]
HOSTILE = "\x1b[2J[/x][lr=0.1]:smile:\x9b31m\u202e\u2028\r\nüber"
SHOWN = "�[2J[/x][lr=0.1]:smile:�31m����über"


@pytest.fixture
def invoke(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command against this application; `asked` holds the paths that the command requested."""

    def forward(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        asked.append(path)
        answer = client.request(request.method, path, content=request.content, headers=dict(request.headers))
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    asked: list[str] = []
    monkeypatch.setattr("app.cli.client._make_transport", lambda *_: httpx2.MockTransport(forward))

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, arguments, input=stdin)

    run.asked = asked  # type: ignore[attr-defined]
    return run


@on_sqlite
def test_names_are_printed_as_they_are_without_what_controls_a_terminal(invoke: Invoke, client: TestClient) -> None:
    run = client.post("/runs", json={"name": HOSTILE}).json()["id"]
    result = invoke("show", run)
    assert (result.exit_code, result.exception) == (0, None)
    assert result.stdout.splitlines()[0] == f"{SHOWN} {run}: queued, epoch 0 of 100"
    document = {"name": HOSTILE, "parameters": {"seed": [1, 2]}}
    swept = client.post("/sweeps", json=document).json()["id"]
    assert invoke("report", swept).stdout.splitlines()[0] == f"Sweep {swept} {SHOWN}: queued, 2 trials"
    refused = invoke("train", "--preset", "[/x]\x1b[2J:smile:")
    assert "[/x]\\x1b[2J:smile:" in refused.stderr
    assert "\x1b" not in refused.stderr


@on_sqlite
def test_the_ranking_is_shown_and_changed(invoke: Invoke, client: TestClient, add_model: AddModel) -> None:
    empty = invoke("ranking")
    assert (empty.exit_code, empty.stdout) == (0, "Models are ranked by shifted accuracy.\n")
    shifted: dict[str, Any] = {"shifted_accuracy": 0.9, "shifted_loss": 0.5, "shifted_standard_error": 0.0025}
    by_shifted, by_val = add_model(0.8, **shifted), add_model(0.9)
    shown = " ".join(invoke("ranking").stdout.split())
    why = "Its shifted accuracy is 0.9000 (± 0.0025); no other model on the canonical split has one yet."
    assert f"Champion: run {by_shifted}. {why}" in shown
    changed = invoke("ranking", "val")
    assert changed.exit_code == 0
    assert by_val in changed.stdout
    assert client.get("/models/ranking").json()["by"] == "val"
    assert invoke("ranking", "size").exit_code == 2


@on_sqlite
def test_a_runs_shifted_accuracy_is_shown(invoke: Invoke, add_run: AddRun, database: Database) -> None:
    columns: dict[str, Any] = {
        "shifted_accuracy": 0.9634,
        "shifted_standard_error": 0.0021,
        "best_epoch": 1,
        "best_val_loss": 0.1,
    }
    run_id = add_run(status=RunStatus.SUCCEEDED, best_val_accuracy=0.99, **columns)
    with database.writing() as session:
        values = dict.fromkeys(("train_loss", "train_accuracy", "train_eval_loss", "train_eval_accuracy"), 0.5)
        session.add(Metric(run_id=run_id, epoch=1, val_loss=0.1, val_accuracy=0.99, seconds=1.0, **values))
    assert "shifted accuracy 96.34% ± 0.21: on 10 warped copies of each val image" in invoke("show", run_id).stdout


@on_sqlite
def test_no_id_reaches_another_route(invoke: Invoke) -> None:
    for name in ("../models/champion", "..", ".", "", "x/metrics", "x\\..\\y", "/", "x/../../models/champion", "./x"):
        for command in ("show", "mistakes", "report"):
            result = invoke(command, name)
            assert result.exit_code == 1
            assert result.stderr.splitlines() == [f"There is no '{name}': an id is not empty, and has no slashes."]
    assert invoke.asked == []  # type: ignore[attr-defined]


@on_sqlite
def test_ids_are_quoted(invoke: Invoke) -> None:
    for name in ("x?y=1", "x#y", "%2e%2e", "%2Fmetrics", "x y", "ü", "\x1b", "x;y", "..%2fmodels"):
        result = invoke("show", name)
        assert result.exit_code == 1
        assert "(404)" in result.stderr
        path = invoke.asked.pop()  # type: ignore[attr-defined]
        assert path.startswith("/runs/")
        assert path.count("/") == 2
        assert not set("?#; \x1bü") & set(path)
    assert invoke.asked == []  # type: ignore[attr-defined]


@on_sqlite
@pytest.mark.parametrize("model", [{"kind": "mlp", "hidden_sizes": [8]}, {"kind": "random_forest"}])
@pytest.mark.parametrize("part", ["config", None])
def test_train_takes_what_the_service_wrote_of_a_run(
    invoke: Invoke, client: TestClient, tmp_path: Path, model: dict[str, Any], part: str | None
) -> None:
    run = client.post("/runs", json={"model": model}).json()
    written = client.get(f"/runs/{run['id']}").json()
    file = tmp_path / "run.json"
    file.write_text(json.dumps(written[part] if part else written), encoding="utf-8-sig")
    result = invoke("train", "--config", str(file), "--name", "again", "--detach")
    assert (result.exit_code, result.stderr) == (0, "")
    again = client.get(f"/runs/{result.stdout.strip()}").json()
    assert (again["config"], again["name"]) == (written["config"], "again")


@on_sqlite
@pytest.mark.parametrize(
    ("command", "content", "said"),
    [
        (["predict"], b'{"instances": [NaN]}', "(503)"),
        (["predict"], b"[Infinity]", "(503)"),
        (["predict"], b'{"instances": "\\ud800"}', "(503)"),
        (["train", "--config"], b'{"seed": NaN}', "#/seed: "),
        (["train", "--config"], b'{"training": {"epochs": -Infinity}}', "#/training/epochs: "),
        (["train", "--epochs", "3", "--config"], b'{"training": [1]}', "#/training"),
        (["train", "--config"], b'{"training": "x"}', "#/training"),
        (["sweep"], b'{"parameters": {"seed": [NaN]}}', "#/parameters/seed/0: "),
    ],
)
def test_what_the_service_refuses_is_sent_as_it_is(
    invoke: Invoke, tmp_path: Path, command: list[str], content: bytes, said: str
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    result = invoke(*command, str(tmp_path / "a.json"))
    assert result.exit_code == 1, result.output
    assert said in result.stderr
    assert len(invoke.asked) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_text('{"name": "ü"}', encoding=encoding)
    assert read_json(tmp_path / "a.json") == {"name": "ü"}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 100_000, b"{'a': 1}", b"\xe4", None])
def test_a_file_that_is_no_json_is_named_in_a_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a\x1b.json"
    if content is not None:
        file.write_bytes(content)
    for command in (["predict"], ["train", "--config"], ["sweep"]):
        result = CliRunner().invoke(cli, [*command, str(file)])
        (line,) = result.stderr.splitlines()
        assert (result.exit_code, line.startswith(str(file).replace("\x1b", "�"))) == (2, True)


TLS = b"\x16"
HTML = b"<html>\x1b[2J</html>"
COMMANDS = {
    "show": ["show", "x"],
    "mistakes": ["mistakes", "x"],
    "report": ["report", "x"],
    "train": ["train"],
    "sweep": ["sweep", "x"],
    "predict": ["predict", "-"],
}


def answer(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    said = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {said}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


ANSWERS = {
    "redirect": (answer("307 Away", b"", "Location: https://else.example/\x1b"), "redirects to https://else.example/"),
    "moved": (answer("301 Moved Permanently", HTML), "redirects to elsewhere"),
    "html": (answer("200 OK", HTML, "Content-Type: text/html"), "answers with text/html"),
    "empty": (answer("200 OK"), "no declared type"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "no declared type"),
    "list": (answer("200 OK", b"[]", "Content-Type: application/json"), "not this version of digitlab's"),
    "other": (answer("200 OK", b'{"ok": true}', "Content-Type: application/json"), "not this version of digitlab's"),
    "text": (answer("200 OK", b'"data"', "Content-Type: application/json"), "not this version of digitlab's"),
    "number": (answer("200 OK", b"1", "Content-Type: application/json"), "not this version of digitlab's"),
    "null": (answer("200 OK", b"null", "Content-Type: application/json"), "not this version of digitlab's"),
    "nested": (answer("200 OK", b"[" * 100_000, "Content-Type: application/json"), "application/json"),
    "latin": (answer("200 OK", b'"\xe4"', "Content-Type: application/json"), "application/json"),
    "bad gateway": (answer("502 Bad Gateway", HTML, "Content-Type: text/html"), "answers 502 Bad Gateway"),
    "other problem": (answer("404 Not Found", b'{"errors": 3}'), "answers 404 Not Found"),
    "list problem": (answer("500 Oh", b"[]"), "answers 500 Oh"),
    "truncated": (answer("200 OK", b'{"id": ', length=100), "breaks off"),
    "gzip": (answer("200 OK", b"no gzip", "Content-Encoding: gzip"), "cannot be asked"),
    "not HTTP": (b"220 mail.example ESMTP\r\n", "is not HTTP"),
    "closed": (b"", "is not HTTP"),
}


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Listen on a port and send the same bytes to every request; the test puts them into the list."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        contents: list[bytes] = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        head = b""
                        while b"\r\n\r\n" not in head and head[:1] != TLS and (more := connection.recv(65536)):
                            head += more
                        length = re.search(rb"content-length: (\d+)", head.lower())
                        missing = int(length[1]) - len(head.partition(b"\r\n\r\n")[2]) if length else 0
                        while missing > 0:
                            missing -= len(connection.recv(65536))
                        connection.sendall(contents[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], contents
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def ask(command: str, url: str) -> str:
    """Run a command that must fail; return the single line that it prints."""
    result = CliRunner().invoke(cli, [*COMMANDS[command], "--url", url], input="[[0]]")
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "\x1b" not in line
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_not_digitlabs_is_named(
    listener: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch, command: str, case: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):  # a loopback address is reached without a proxy
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")  # an http:// URL needs no certificates
    port, contents = listener
    contents[:], said = [ANSWERS[case][0]], ANSWERS[case][1]
    assert said in ask(command, f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("url", "environment", "said"),
    [
        ("http://127.0.0.1:1", {}, "nothing listens there; is the service running (digitlab up)?"),
        ("http://nohost.invalid", {}, "the name nohost.invalid cannot be resolved"),
        ("https://127.0.0.1:PORT", {}, "is it http:// rather than https://?"),
        ("https://127.0.0.1:1", {"SSL_CERT_FILE": "/nonexistent"}, "SSL_CERT_FILE=/nonexistent"),
        ("http://a.example", {"ALL_PROXY": "socks5://u:secret@127.0.0.1:1"}, "pip install socksio"),
        ("http://a.example", {"HTTP_PROXY": "nonsense://127.0.0.1"}, "The proxy nonsense://127.0.0.1"),
        ("http://a.example", {"http_proxy": "http://u:secret@127.0.0.1:1"}, "through the proxy http://127.0.0.1:1"),
        ("http://nohost.invalid", {"all_proxy": "socks5://a", "NO_PROXY": "nohost.invalid"}, "cannot be resolved"),
        ("localhost:8000", {}, "is no address of a service"),
        ("", {}, "is no address of a service"),
        ("http://", {}, "is no address of a service"),
        ("http://[::1", {}, "is no address of a service"),
        ("http://localhost:99999", {}, "is no address of a service"),
        ("http://local\x1bhost", {}, "is no address of a service"),
        ("ftp://localhost", {}, "is no address of a service"),
    ],
)
def test_a_service_that_cannot_be_reached_is_explained(
    listener: tuple[int, list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: dict[str, str],
    said: str,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    port, contents = listener
    contents[:] = [answer("400 Bad Request")]
    line = ask("show", url.replace("PORT", str(port)))
    assert said in line
    assert "secret" not in line


def test_a_silent_service_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.client.TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = ask("show", f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "does not answer within 0.05 seconds" in said


@on_sqlite
@pytest.mark.usefixtures("invoke")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_characters_that_a_terminal_lacks_are_replaced(
    client: TestClient, add_run: AddRun, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    run, swept = add_run(name="中文"), client.post("/sweeps", json={"name": "中", "parameters": {"seed": [1]}}).json()
    for command in (["show", run], ["report", swept["id"]], ["predict", "-"], ["train", "--preset", "中"], ["--help"]):
        out, err = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(out, encoding))
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(err, encoding))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[[0]]")))
        monkeypatch.setattr("sys.argv", ["digitlab", *command])
        monkeypatch.setenv("PYTHONSAFEPATH", "1")
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        sys.stderr.flush()
        assert ended.value.code in (0, 1)
        assert b"?" in out.getvalue() or command[0] not in ("show", "report")
        assert out.getvalue() + err.getvalue()


@pytest.mark.parametrize(
    ("first", "last", "number", "axis"),
    [(1, 5, 5, "epoch 1 … 5"), (7, 7, 1, "epoch 7"), (1, 12, 12, "epoch 1   12"), (1, 2, 2, "epoch 1 … 2")],
)
def test_a_short_axis_of_epochs_is_readable(first: int, last: int, number: int, axis: str) -> None:
    assert draw_curve([0.5] * number, first, last)[-1].strip() == axis


METRICS = {"train_loss": 0.12345, "val_loss": 0.12345, "train_accuracy": 1.0, "val_accuracy": 0.98765}


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_progress_is_readable_at_every_width(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with Progress(*progress_columns(width), console=console, auto_refresh=False) as bar:
        task = bar.add_task("queued (12)", total=100_000, metrics=describe(METRICS, width))
        bar.update(task, completed=99_999)
        (line,) = console.render_lines(bar.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert "99999/100000" in text
    assert "queued (12)" in text
    assert "…" not in text
    assert ("98.7" in text) == (width >= 55)


def test_parameters_of_one_name_are_told_apart() -> None:
    names = parameter_names(["seed", "split.seed"])
    value = {
        "num_points": 1,
        "mean_val_accuracy": 0.9,
        "mean_shifted_accuracy": None,
        "standard_error": None,
        "best_val_accuracy": 0.9,
    }
    value |= {"mean_epochs_to_plateau": None}
    effects = [
        {"path": path, "share_of_variance": None, "values": [{"value": 1, **value}]} for path in ("seed", "split.seed")
    ]
    point = {
        "rank": 1,
        "point_number": 0,
        "mean_val_accuracy": 0.9,
        "mean_shifted_accuracy": None,
        "standard_error": None,
        "num_parameters": 1,
        "mean_epochs_to_plateau": None,
        "is_within_noise": True,
        "num_full_train_accuracy": 0,
        "parameters": {"seed": 1, "split.seed": 2},
    }
    noise = {"best_point": 0, "num_within_noise": 1, "smallest_point": 0, "quickest_point": 0}
    report = {"paths": list(names), "points": [point], "pareto": [], "effects": effects, "noise": noise, "choice": None}
    assert _points_table(report, names, 1).columns[-1].header == "seed, split.seed"
    assert list(_effects_table(report, names).columns[0].cells) == ["seed", "split.seed"]
    assert "(seed 1, split.seed 2; " in _conclusions(report, names)[0]


@on_sqlite
def test_predict_takes_pictures_and_json_side_by_side(invoke: Invoke, add_model: AddModel, tmp_path: Path) -> None:
    add_model()
    (tmp_path / "seven.png").write_bytes(encode(seven()))
    (tmp_path / "seven.jpg").write_bytes(encode(seven(), "JPEG"))
    (tmp_path / "blank.json").write_text(json.dumps([[0] * 8] * 8))
    (tmp_path / "page.tif").write_bytes(encode(seven(), "TIFF"))
    files = [str(tmp_path / name) for name in ("seven.png", "seven.jpg", "blank.json", "page.tif")]
    result = invoke("predict", "--json", *files[:3])
    answers = [json.loads(line)["predictions"] for line in result.stdout.splitlines()]
    assert [(len(each), "pixels" in each[0]) for each in answers] == [(1, True), (1, True), (1, False)]
    refused = invoke("predict", files[3])
    assert (refused.exit_code, files[3] in refused.stderr) == (1, True)
    assert "is not a PNG" in refused.stderr


@on_sqlite
def test_a_wrong_file_keeps_no_other_from_its_answer(invoke: Invoke, add_model: AddModel, tmp_path: Path) -> None:
    add_model()
    (tmp_path / "seven.png").write_bytes(encode(seven()))
    (tmp_path / "cut.png").write_bytes(encode(seven())[:60])
    (tmp_path / "text.json").write_text("no JSON")
    seven_png, cut, text, missing = (str(tmp_path / each) for each in ("seven.png", "cut.png", "text.json", "none"))
    result = invoke("predict", "--json", cut, seven_png, text, missing, seven_png)
    answers = [json.loads(line)["predictions"] for line in result.stdout.splitlines()]
    assert (len(answers), answers[0], result.exit_code) == (2, answers[1], 1)
    assert all(each in result.stderr for each in (cut, text, missing))
    assert invoke("predict", missing, seven_png).exit_code == 2


def test_a_closed_standard_input_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(typer.Exit):
        read_file(Path("-"))
    assert "standard input is closed" in capsys.readouterr().err


@on_sqlite
def test_a_report_begins_with_its_answer(invoke: Invoke, client: TestClient, database: Database) -> None:
    sweep = client.post("/sweeps", json={"parameters": {"training.batch_size": [10, 20]}}).json()
    waiting = invoke("report", sweep["id"]).output.splitlines()
    assert waiting == [f"Sweep {sweep['id']}: queued, 2 trials", "No trial has succeeded yet."]
    for run, accuracy in zip(runs_of(database, sweep["id"]), (0.5, 0.9), strict=True):
        finish(database, run.id, val_accuracy=accuracy)
    lines = " ".join(invoke("report", sweep["id"]).output.split())
    answer = client.get(f"/sweeps/{sweep['id']}/report").json()["answer"]
    assert answer == "Of 2 points the best is batch_size 20, with 90.00 % on val. No other is within noise of it."
    assert lines.startswith(f"Sweep {sweep['id']}: succeeded, 2 trials {answer} ±")
