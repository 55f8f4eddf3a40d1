"""The event loop beside threads that compute."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from app.http.threads import SWITCH_SECONDS
from app.main import create_app
from app.settings import Settings


@pytest.fixture
def own_interval() -> Iterator[float]:
    """Python's own switch interval, during the test and after it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield 0.005
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("database")
def test_threads_of_the_service_lend_the_interpreter_sooner_than_pythons_own(
    own_interval: float, settings: Settings
) -> None:
    with TestClient(create_app(settings)):
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
    assert own_interval > SWITCH_SECONDS
