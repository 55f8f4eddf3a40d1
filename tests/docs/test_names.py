"""The modules, classes and functions that the pages name exist."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from tests.docs.pages import PAGES, inline_code

NAME = re.compile(r"(app|workers|tests)(\.\w+)+")
NO_NAMES = re.compile(r".*\.(py|md)")
NAMES = sorted(
    {
        (page.name, code)
        for page in PAGES
        for code in inline_code(page.read_text(encoding="utf-8"))
        if NAME.fullmatch(code) and not NO_NAMES.fullmatch(code)
    }
)


def resolve(name: str) -> Any:
    """What a dotted name stands for: a module, or something in one.

    Raises:
        ModuleNotFoundError: No module of this name, and none around it.
        AttributeError: The module lacks it.
    """
    module_name, missing = name, []
    while True:
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise  # something that the module imports
            module_name, _, attribute = module_name.rpartition(".")
            if not module_name:
                raise
            missing.append(attribute)
        else:
            break
    for attribute in reversed(missing):
        found = getattr(found, attribute)
    return found


@pytest.mark.parametrize(("page", "name"), NAMES)
def test_what_a_page_names_exists(page: str, name: str) -> None:  # noqa: ARG001
    resolve(name)


def test_the_walks_name_functions() -> None:
    assert sum(page == "architecture.md" for page, _ in NAMES) > 50


@pytest.mark.parametrize("name", ["app.runs.no_module.submit", "app.runs.service.no_function"])
def test_a_name_that_does_not_exist_is_found(name: str) -> None:
    with pytest.raises((ModuleNotFoundError, AttributeError)):
        resolve(name)
