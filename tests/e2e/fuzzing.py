"""Hooks and checks that Schemathesis needs besides the OpenAPI document; `schemathesis.toml` names this module."""

from __future__ import annotations

import os
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.errors import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth, missing_required_header

# The clients that send each case again: name, the API's address, the headers.
KEYED_URL, OPEN_URL = os.environ["DIGITLAB_KEYED_URL"], os.environ["DIGITLAB_OPEN_URL"]
READER = {"Authorization": f"Bearer {os.environ['DIGITLAB_READER_KEY']}"}
OTHERS: dict[str, tuple[str, dict[str, str]]] = {"predict key": (KEYED_URL, READER), "no keys": (OPEN_URL, {})}
TIMEOUT_SECONDS = 60

# JSON Schema cannot express "64 bytes per image, each from 0 to 16".
IMAGES = st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=3).map(
    lambda images: bytes(pixel % 17 for image in images for pixel in image)
)
schemathesis.openapi.media_type("application/octet-stream", IMAGES)


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Replace empty path parameters.

    Schemathesis takes a run's name, which may be empty, for a model's name; the path without it is another operation's.
    """
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = value or "none"


sessions = {client: requests.Session() for client in OTHERS}
for session in sessions.values():
    session.headers.clear()  # they would replace a case's headers
    session.trust_env = False  # looks for no proxy and no .netrc with each request
statuses: dict[str, set[int]] = {client: set() for client in OTHERS}  # the statuses seen so far


@schemathesis.check
def every_client(_: CheckContext, __: Response, case: Case[Any]) -> None:
    """Send each case again as the other clients and check these responses: generating a case takes longest."""
    for client, (url, headers) in OTHERS.items():
        again = case.derive()
        response = again.call(url, sessions[client], headers, timeout=TIMEOUT_SECONDS)
        statuses[client].add(response.status_code)
        left_out = [every_client, ignored_auth, missing_required_header]  # the admin's cases check these
        try:
            again.validate_response(response, excluded_checks=left_out, headers=headers)
        except FailureGroup as failures:
            raise AssertionError(f"With {client}: {failures}") from None


@schemathesis.check
class EveryClientIsKnown:
    """Check that the predict key opens some operations, and an API without keys all of them."""

    def after_run(self, _: CheckContext) -> None:
        assert {200, 403} <= statuses["predict key"], statuses
        assert {200, 202} <= statuses["no keys"], statuses
        assert not {401, 403} & statuses["no keys"], statuses
