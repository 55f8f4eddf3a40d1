"""The page's files: headers, encodings, caching; what the files may contain."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from app.main import create_app
from app.settings import Settings
from app.web import files
from app.web.files import FOLDER, MEDIA_TYPES
from tests.conftest import AssertProblem, TestClient

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = sorted(each.relative_to(FOLDER).as_posix() for each in FOLDER.rglob("*") if each.is_file())
MODULES = [each for each in FILES if each.endswith(".js")]
FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write",
    r"\beval\(|new Function",
    r"style=",
    r"https?://(?!www\.w3\.org/2000/svg)",
)
PATHS = ["/", *(f"/web/{each}" for each in FILES if each != "index.html")]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("page")
    copyfile(migrated_file, folder / "digitlab.db")
    with TestClient(create_app(Settings(data_dir=folder, api_keys="admin:writer-0123456789"))) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_every_file_is_sent_without_a_key_under_the_strict_policy(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"] == MEDIA_TYPES[Path(path).suffix or ".html"]
    assert answer.content == (FOLDER / (path.removeprefix("/web/").strip("/") or "index.html")).read_bytes()


def test_gzip_only_where_it_is_taken(client: TestClient) -> None:
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    for wanted in ("gzip", "br, gzip;q=0.5", "*", "*;q=0, gzip", "x-gzip", "identity;q=0.5, gzip;q=0.5"):
        with client.stream("GET", "/", headers={"Accept-Encoding": wanted}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert gzip.decompress(b"".join(answer.iter_raw())) == plain.content
            assert answer.headers["etag"] != plain.headers["etag"]
            assert "Accept-Encoding" in answer.headers["vary"]
    for refused in ("gzip;q=0", "gzip; Q=0", "br", "", "identity, gzip;q=0.5"):
        assert "content-encoding" not in client.get("/", headers={"Accept-Encoding": refused}).headers


def test_an_unchanged_file_is_a_304(client: TestClient) -> None:
    for encoding in ("gzip", "identity"):
        etag = client.get("/web/js/main.js", headers={"Accept-Encoding": encoding}).headers["etag"]
        again = client.get("/web/js/main.js", headers={"Accept-Encoding": encoding, "If-None-Match": etag})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        other = client.get("/web/js/main.js", headers={"Accept-Encoding": encoding, "If-None-Match": '"other"'})
        assert other.status_code == 200


def test_head_has_the_headers_alone(client: TestClient) -> None:
    answer = client.head("/", headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == (FOLDER / "index.html").stat().st_size


@pytest.mark.parametrize("path", ["x", "js/nothing.js", "index.html", "js", "..%2fendpoints.py", ""])
def test_an_unknown_file_is_a_problem(client: TestClient, assert_problem: AssertProblem, path: str) -> None:
    assert_problem(client.get(f"/web/{path}"), 404, None)


def test_names_of_files_that_are_not_there_are_not_kept(client: TestClient) -> None:
    def kept() -> int:
        return sum(cached.cache_info().currsize for cached in vars(files).values() if hasattr(cached, "cache_info"))

    client.get("/")
    before = kept()
    for number in range(50):
        assert client.get(f"/web/{number}.js").status_code == 404
    assert kept() == before


def test_a_change_of_the_page_is_refused(client: TestClient) -> None:
    assert client.post("/").status_code == 405


def test_the_page_is_no_operation_of_the_api() -> None:
    paths = create_app(Settings()).openapi()["paths"]
    assert [path for path in paths if path == "/" or path.startswith("/web")] == []


def test_addresses_are_relative_so_that_a_proxy_may_put_a_prefix_before_them() -> None:
    page = (FOLDER / "index.html").read_text()
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', page)
    assert len(addresses) > 20
    assert [each for each in addresses if each.startswith("/") or ":" in each] == []
    files = {each.removeprefix("web/") for each in addresses if each.startswith("web/")}
    assert files - set(FILES) == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_keeps_to_the_policy(name: str) -> None:
    text = (FOLDER / name).read_text()
    for pattern in FORBIDDEN:
        assert re.findall(pattern, text) == [], pattern
    assert re.findall(r"""fetch\(\s*["'`]/""", text) == [], "addresses of the API are relative"
    assert text.count("\n") < 350
    assert text.startswith("// "), "each module begins by saying what lives here"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_is_there(name: str) -> None:
    text = (FOLDER / name).read_text()
    for names, place in re.findall(r'import (?:\{([^}]*)\}|\* as \w+) from "([^"]+)";', text):
        target = (FOLDER / name).parent / place
        assert target.is_file(), place
        exported = set(
            re.findall(r"^export (?:async )?(?:function|const|class|let) (\w+)", target.read_text(), re.MULTILINE)
        )
        wanted = {each.strip().split(" as ")[0] for each in names.split(",") if each.strip()}
        assert wanted <= exported, place
        assert [each for each in wanted if len(re.findall(rf"\b{each}\b", text)) < 2] == [], "imported and not used"
