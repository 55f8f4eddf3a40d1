"""Every request gets an id, security headers, a measurement and, if it changes something or fails, a log line."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from app.database import Database
from app.logs import REQUEST_ID, configure_logging
from app.main import create_app
from app.settings import Settings
from app.tables import RunStatus
from tests.conftest import AddRun, AssertProblem, TestClient


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    """Return all samples of /metrics, keyed by name and label values."""
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def failing(settings: Settings, database: Database) -> Iterator[TestClient]:  # noqa: ARG001
    """An application with a route that raises an error."""
    app: FastAPI = create_app(settings)

    @app.get("/broken")
    def break_down() -> None:
        raise RuntimeError("secret")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_an_answer_and_its_problem_carry_the_request_id(client: TestClient, assert_problem: AssertProblem) -> None:
    given = client.get("/runs/none", headers={"X-Request-ID": "from-the-client.1"})
    assert given.headers["x-request-id"] == "from-the-client.1"
    assert assert_problem(given, 404, "run-not-found")["request_id"] == "from-the-client.1"
    first, second = (client.get("/runs/none") for _ in range(2))
    assert first.headers["x-request-id"] == first.json()["request_id"]
    assert first.json()["request_id"] != second.json()["request_id"]


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, "a\tb", "ä", "<script>"])
def test_an_id_that_could_do_harm_in_a_log_is_replaced(client: TestClient, given: str) -> None:
    answered = client.get("/health/live", headers={b"X-Request-ID": given.encode()}).headers["x-request-id"]
    assert answered != given
    assert len(answered) < 40


def test_an_unexpected_error_is_logged_under_its_request_id_and_keeps_its_secrets(
    failing: TestClient, caplog: pytest.LogCaptureFixture, assert_problem: AssertProblem
) -> None:
    seen: list[str | None] = []

    def note(_: logging.LogRecord) -> bool:
        seen.append(REQUEST_ID.get())
        return True

    caplog.handler.addFilter(note)
    answer = failing.get("/broken")
    caplog.handler.removeFilter(note)
    body = assert_problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert "RuntimeError: secret" in caplog.text
    assert body["request_id"] in seen
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_answer_has_security_headers_and_the_documentation_may_run_its_own_scripts(client: TestClient) -> None:
    for path in ("/health/live", "/runs/none", "/nothing"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
    docs = client.get("/docs")
    policy = docs.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert not re.search(r"unsafe|http|\*", policy)
    assert "//" not in docs.text
    assert not re.search(r"<script>|<style| style=| on\w+=", docs.text)
    files = re.findall(r'(?:src|href)="([^"]+)"', docs.text)
    assert len(files) == 4
    for file in files:
        assert client.get(f"/{file}").status_code == 200


def test_what_changes_something_or_fails_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.requests")
    client.get("/runs")
    assert caplog.records == []
    client.post("/runs", json={})
    client.get("/runs/none")
    assert [record.getMessage().rsplit(" ", 2)[0] for record in caplog.records] == [
        "POST /runs 202",
        "GET /runs/none 404",
    ]


def test_a_path_cannot_write_lines_of_its_own_into_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.requests")
    client.get("/runs/x%0a12:00:00%20INFO%20all%20is%20well")
    client.get("/runs/" + "x" * 1000)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("GET /runs/x%0a12:00:00%20INFO%20all%20is%20well 404")
    assert len(second) < 250


def test_all_requests_are_logged_on_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.requests")
    with TestClient(create_app(Settings(data_dir=tmp_path, log_requests="all"))) as client:
        client.get("/health/live")
    assert "GET /health/live 200" in caplog.text


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_line_carries_the_request_id(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure_logging("api", log_format)
    token = REQUEST_ID.set("r-1")
    try:
        logging.getLogger("x").info("%s %d", "GET", 200, extra={"status": 200})
    finally:
        REQUEST_ID.reset(token)
    logging.getLogger("x").info("none")
    first, second = written.getvalue().splitlines()
    if log_format == "text":
        assert first.endswith("INFO    api     GET 200 [r-1]")
        assert second.endswith("INFO    api     none")
        return
    line = json.loads(first)
    assert line.pop("time")
    assert line == {
        "level": "INFO", "logger": "x", "message": "GET 200", "request_id": "r-1", "process": "api", "status": 200
    }  # fmt: skip
    assert json.loads(second)["request_id"] is None


def test_requests_are_measured_by_route_and_never_by_path(client: TestClient) -> None:
    count = "digitlab_request_duration_seconds_count"
    before = samples(client)
    for number in range(3):
        client.get(f"/runs/{number}")
        client.get(f"/nothing/{number}")
    client.request("BREW", "/runs")
    after = samples(client)
    grown = {key: value - before.get(key, 0) for key, value in after.items() if key[0] == count}
    assert grown[count, "GET", "/runs/{run_id}", "404"] == 3
    assert grown[count, "GET", "unmatched", "404"] == 3
    assert sum(value for key, value in grown.items() if key[1] == "other") == 1
    assert not any("/nothing" in part for key in after for part in key)


def test_the_queue_is_measured(client: TestClient, add_run: AddRun) -> None:
    add_run()
    add_run()
    add_run(status=RunStatus.RUNNING, epochs_per_second=120.0)
    add_run(status=RunStatus.RUNNING, epochs_per_second=30.0)
    add_run(status=RunStatus.SUCCEEDED, epochs_per_second=1000.0)
    seen = samples(client)
    assert seen["digitlab_runs", "queued"] == seen["digitlab_queue_length",] == 2
    assert seen["digitlab_runs", "succeeded"] == 1
    assert seen["digitlab_runs", "failed"] == 0
    assert seen["digitlab_epochs_per_second",] == 150
    assert 0 < seen["digitlab_queue_oldest_age_seconds",] < 60
    assert seen["digitlab_workers",] == 0
    assert seen["digitlab_database_up",] == 1


def test_without_a_database_the_process_is_still_measured(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path))) as client:  # the database is not migrated
        seen = samples(client)
    assert seen["digitlab_database_up",] == 0
    assert ("digitlab_queue_length",) not in seen
    assert ("process_resident_memory_bytes",) in seen


def test_metrics_come_as_prometheus_asks(client: TestClient) -> None:
    assert client.get("/metrics").headers["content-type"].startswith("text/plain")
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], io.StringIO]]:
    """Return a function that configures logging as the API does and returns the stream that it writes to."""
    stream = io.StringIO()
    root = logging.getLogger()
    level, added = root.level, []

    def start(log_format: str) -> io.StringIO:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setattr(root, "handlers", [])  # removes pytest's handlers
        monkeypatch.setattr(logging.getLogger("httpx2"), "disabled", True)  # silences the test client
        configure_logging("api", log_format)
        added.extend(root.handlers)
        return stream

    yield start
    for handler in added:
        handler.close()
    root.setLevel(level)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_expected_answers_are_no_errors_and_repeated_lines_are_counted(
    client: TestClient, configure: Callable[[str], io.StringIO], log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.logs.WINDOW_SECONDS", 600)
    log = configure(log_format)
    for _ in range(20):
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/runs/none").status_code == 404
    for _ in range(3):
        logging.getLogger("a worker's").error("The database is away")
    logging.getLogger().handlers[0].close()  # happens at the end of the process
    lines = log.getvalue().splitlines()
    levels = [json.loads(line)["level"] if log_format == "json" else line.split()[2] for line in lines]
    assert levels == ["INFO", "INFO", "ERROR", "INFO", "INFO", "ERROR"]
    for line, what in zip(
        lines[3:],
        (
            "GET /v2/health/ready 503: 19 more times within 600 s",
            "GET /runs/none 404: 19 more times within 600 s",
            "The database is away: 2 more times within 600 s",
        ),
        strict=True,
    ):
        assert (json.loads(line)["message"] == what) if log_format == "json" else line.endswith(what)


def test_counts_are_written_at_the_end_of_the_window_and_errors_of_requests_always(
    failing: TestClient, configure: Callable[[str], io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.logs.WINDOW_SECONDS", 0.05)
    log = configure("text")
    ids = [failing.get("/broken").headers["x-request-id"] for _ in range(3)]
    assert all(f"[{request_id}]" in log.getvalue() for request_id in ids)
    for _ in range(4):
        logging.getLogger("x").warning("again")
    deadline = time.monotonic() + 20
    while "again: 3 more times" not in log.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)
