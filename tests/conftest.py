"""Fixtures of all tests. Databases are real and made by the real migrations; tests that use one run on both kinds."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from typing import Any, Protocol

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient as AnyTestClient
from sqlalchemy import event
from sqlalchemy.orm import Session

from app.database import Database
from app.main import create_app
from app.models import promotion
from app.queue import claiming, lifecycle
from app.queue.claiming import Claim
from app.run_config import RunConfig
from app.run_costs import stack_key
from app.settings import Settings
from app.tables import Run, RunStatus, SavedModel
from tests.graphs import random_graph
from tests.postgres import Postgres, migrate_url, start_postgres

# A shell starts background jobs with SIGINT ignored, and the processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What the paths of tests begin with that run in one process. Two browsers at once would keep both cores busy, and what
# the page's tests wait for would take minutes.
TOGETHER = (
    "tests/web/",
    "tests/e2e/test_up.py",
    "tests/app/results/test_run_charts.py",
    "tests/app/charts/test_pictures.py",
)

AssertProblem = Callable[[Any, int, str | None], dict[str, Any]]


class TestClient(AnyTestClient):
    """Sends requests to `localhost`, as clients do; the service does not accept the parent's default host name."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(app, base_url="http://localhost", **options)


class AddRun(Protocol):
    """Adds a run with these columns to the database, and returns its id."""

    def __call__(self, config: RunConfig | None = None, **columns: Any) -> str: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest, the page and the end-to-end tests: at the end, one process would run them alone."""
    folders = [Path(__file__).parent / name for name in ("web", "e2e")]
    items.sort(key=lambda item: folders.index(item.path.parent) if item.path.parent in folders else len(folders))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send tests that share what is expensive to one process: a service and its browser, pictures that are drawn once.

    `--dist loadgroup` asks for this. xdist 3.8 keeps a group in a test's id, which pytest 9.2 does not let it change:
    marks have no effect.
    """
    from xdist.scheduler import LoadScopeScheduling

    if config.getvalue("dist") != "loadgroup":
        return None
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda nodeid: next((path for path in TOGETHER if nodeid.startswith(path)), nodeid)
    return scheduler


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Choose the number of `-n auto`: one more than cores, since many tests wait; at most 8, since each loads torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores + 1)


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo what `configure_logging` does to the root logger, where a test calls what runs in a process of its own."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(autouse=True)
def restore_settings() -> Iterator[None]:
    """Undo what commands write into `DIGITLAB_*` variables: processes that later tests start would inherit it."""
    before = {name: value for name, value in os.environ.items() if name.startswith("DIGITLAB_")}
    yield
    for name in [name for name in os.environ if name.startswith("DIGITLAB_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with start_postgres() as running:
        yield running


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file made by the real migrations; tests use copies of it."""
    file = tmp_path_factory.mktemp("migrated") / "digitlab.db"
    migrate_url(f"sqlite:///{file}")
    return file


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a service; its database is migrated if the test also uses `database`, directly or not."""
    is_migrated = "database" in request.fixturenames
    if request.param == "sqlite":
        if is_migrated:
            copyfile(request.getfixturevalue("migrated_file"), tmp_path / "digitlab.db")
        yield Settings(data_dir=tmp_path)
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    with postgres.new_database(is_migrated=is_migrated) as url:
        yield Settings(data_dir=tmp_path, database_url=url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.resolved_database_url)
    yield database
    database.close()


@contextmanager
def counting_statements(database: Database, part: str) -> Iterator[list[str]]:
    """Yield a list that collects the statements with `part` that are sent to the database during the context."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if part in statement:
            statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield statements
    event.remove(database.engine, "before_cursor_execute", note)


@pytest.fixture
def client(settings: Settings, database: Database) -> Iterator[TestClient]:  # noqa: ARG001
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture
def add_run(database: Database) -> AddRun:
    return partial(insert_run, database)


def insert_run(database: Database, config: RunConfig | None = None, **columns: Any) -> str:
    """Add a run to a database; see `AddRun`."""
    config = config or RunConfig()
    run = Run(
        model_kind=config.model.kind,
        config=config.model_dump(mode="json"),
        device=config.device,
        stack_key=stack_key(config),
        seed=config.seed,
        epochs=config.epochs,
        **columns,
    )
    with database.writing() as session:
        session.add(run)
        session.flush()
        if run.status is RunStatus.QUEUED:
            lifecycle.enter_queue(session, run)
        return run.id


def claim_stack(session: Session, **options: Any) -> list[Claim]:
    """Claim as a worker does whose trainer trains one stack at a time; returns the stack, empty if there is none."""
    stacks = claiming.claim_stacks(session, **options)
    assert len(stacks) <= 1
    return stacks[0] if stacks else []


class AddModel(Protocol):
    """Adds a succeeded run with a saved model to the database, elects the champion, and returns the run's id."""

    def __call__(
        self,
        val_accuracy: float = 0.5,
        graph: bytes | None = None,
        config: RunConfig | None = None,
        **columns: Any,
    ) -> str: ...


@pytest.fixture
def add_model(database: Database) -> AddModel:
    return partial(insert_model, database)


def insert_model(
    database: Database,
    val_accuracy: float = 0.5,
    graph: bytes | None = None,
    config: RunConfig | None = None,
    *,
    name: str = "",
    **columns: Any,
) -> str:
    """Add a succeeded run of this name and its saved model to a database; see `AddModel`."""
    run_id = insert_run(database, config, name=name, status=RunStatus.SUCCEEDED)
    onnx = random_graph() if graph is None else graph
    values: dict[str, Any] = {"epoch": 1, "num_parameters": 610, "train_accuracy": 1.0, "on_canonical_split": True}
    model = SavedModel(
        run_id=run_id,
        onnx=onnx,
        sha256=sha256(onnx).hexdigest(),
        size_bytes=len(onnx),
        val_accuracy=val_accuracy,
        val_loss=1 - val_accuracy,
        **values | columns,
    )
    with database.writing() as session:
        session.add(model)
        session.flush()
        promotion.elect(session)
    return run_id


@pytest.fixture
def client_with_model(settings: Settings, add_model: AddModel) -> Iterator[TestClient]:
    """A client of an application that has a champion."""
    add_model()
    with TestClient(create_app(settings)) as client:
        yield client


def get_run(database: Database, run_id: str) -> Run:
    """Return the run's current row."""
    with database.reading() as session:
        return session.get_one(Run, run_id)


@pytest.fixture
def assert_problem() -> AssertProblem:
    """Asserts that a response is an RFC 9457 body of this status (and slug, unless None); returns the body."""

    def check(response: httpx2.Response, status: int, slug: str | None) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert body["type"].startswith("/problems/")
        if slug is not None:
            assert body["type"] == f"/problems/{slug}"
        assert body["status"] == status
        for field in ("title", "detail", "instance"):
            assert isinstance(body[field], str)
            assert body[field]
        return body

    return check
