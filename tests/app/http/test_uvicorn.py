"""What `app.http.protocol` overrides in uvicorn, which does not export it: a change there must not go unnoticed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http import protocol
from app.http.protocol import BoundedProtocol

CHANGED = (
    "uvicorn {version} has changed {what}: read app/http/protocol.py against uvicorn/protocols/http/httptools_impl.py, "
    "since a bound that is no longer called protects nothing."
)


def overridden() -> Iterator[str]:
    """The protocol's methods that call the parent's, or that uvicorn or asyncio call."""
    for name, member in vars(BoundedProtocol).items():
        is_override = hasattr(HttpToolsProtocol, name) or f"super().{name}(" in inspect.getsource(BoundedProtocol)
        if inspect.isfunction(member) and is_override:
            yield name


@pytest.mark.parametrize("name", sorted(overridden()))
def test_an_overridden_method_exists_with_the_same_parameters(name: str) -> None:
    theirs = getattr(HttpToolsProtocol, name, None)
    assert theirs is not None, CHANGED.format(version=uvicorn.__version__, what=f"or removed {name}")
    ours = getattr(BoundedProtocol, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), CHANGED.format(
        version=uvicorn.__version__, what=f"the parameters of {name}"
    )


def test_all_methods_that_bound_a_connection_are_found() -> None:
    assert set(overridden()) >= {
        "__init__",
        "_start_asgi_task",
        "connection_lost",
        "connection_made",
        "data_received",
        "eof_received",
        "on_body",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
        "shutdown",
    }


@pytest.mark.parametrize(
    "name", ["connections", "cycle", "flow", "headers", "loop", "parser", "pipeline", "transport", "url"]
)
def test_an_attribute_that_is_read_is_still_kept(name: str) -> None:
    source = Path(inspect.getsourcefile(HttpToolsProtocol) or "").read_text(encoding="utf-8")
    assert re.search(rf"self\.{name}\b", inspect.getsource(protocol)), "it is not read any more: take it out here"
    assert re.search(rf"self\.{name}(:[^=\n]+)? = ", source), CHANGED.format(
        version=uvicorn.__version__, what=f"or removed the attribute {name}"
    )


@pytest.mark.parametrize("name", ["disconnected", "message_event", "response_complete", "response_started"])
def test_an_attribute_of_a_response_is_still_kept(name: str) -> None:
    assert re.search(rf"self\.{name}\b", inspect.getsource(RequestResponseCycle)), CHANGED.format(
        version=uvicorn.__version__, what=f"or removed RequestResponseCycle.{name}"
    )
