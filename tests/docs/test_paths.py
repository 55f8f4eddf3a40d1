"""Links, pictures, file maps and paths in the pages lead to something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, inline_code, read, section

LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"\.?(app|workers|tests|docs|docker|alembic|ci)/[\w./-]*")
INSTALLED = {"app/migrations"}  # in the wheel alone
MAP = section(read("docs/contributing.md"), "File map")


def anchors(page: Path) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tree() -> Iterator[str]:
    """The paths of the README's file tree; a deeper indentation is inside."""
    (block,) = blocks(section(read("README.md"), "Files"), "text")
    folders: list[str] = []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        yield "".join(folders)


def rows() -> list[str]:
    """The paths in the first column of the file map."""
    return [path for line in MAP.splitlines() if line.startswith("| `") for path in inline_code(line.split("|")[1])]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_exists(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_is_in_the_index(page: Path) -> None:
    assert page.name == "README.md" or f"(docs/{page.name})" in section(read("README.md"), "Documentation")


def test_every_picture_is_shown() -> None:
    shown = {Path(target).name for page in PAGES for target in LINK.findall(page.read_text(encoding="utf-8"))}
    assert {picture.name for picture in (ROOT / "docs" / "pictures").iterdir()} <= shown


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_in_backticks_exists(page: Path) -> None:
    paths = {code for code in inline_code(page.read_text(encoding="utf-8")) if PATH.fullmatch(code)}
    assert [path for path in sorted(paths - INSTALLED) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("path", [*tree(), *rows()])
def test_what_a_file_map_names_exists(path: str) -> None:
    found = ROOT / path
    assert found.is_dir() if path.endswith("/") else found.is_file()


def test_the_tree_has_every_folder_of_the_api() -> None:
    folders = {f"app/{folder.name}/" for folder in (ROOT / "app").iterdir() if (folder / "__init__.py").exists()}
    assert folders <= set(tree())


def test_the_map_has_every_folder_and_every_module_outside_of_one() -> None:
    in_folders = {f"{init.parent.relative_to(ROOT)}/" for top in ("app", "workers") for init in _inits(top)}
    modules = {str(file.relative_to(ROOT)) for top in ("app", "workers") for file in (ROOT / top).glob("[!_]*.py")}
    assert sorted((in_folders | modules) - {"app/", "workers/"} - set(rows())) == []


def _inits(top: str) -> list[Path]:
    return list((ROOT / top).rglob("__init__.py"))
