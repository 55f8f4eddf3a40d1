"""The page's files, each with its ETag and its gzip encoding. Nothing is read before the first request for it."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    """A file as it is sent; the ETags of its two encodings differ (RFC 9110, 8.8.3.3)."""

    media_type: str
    content: bytes
    compressed: bytes
    digest: str

    def etag(self, *, is_compressed: bool) -> str:
        return f'"{self.digest}-gzip"' if is_compressed else f'"{self.digest}"'


def load(name: str) -> StaticFile | None:
    """Return a file by its path below `static/`, None if there is no such file.

    Raises:
        OSError: The file cannot be read.
    """
    return _read(name) if name in _names() else None


@cache
def _read(name: str) -> StaticFile:
    """Read a file once. Names that clients make up are kept out of this cache, which has no bound."""
    content = (FOLDER / name).read_bytes()
    # mtime=0: all API processes make the same bytes.
    compressed = gzip.compress(content, compresslevel=9, mtime=0)
    return StaticFile(MEDIA_TYPES[Path(name).suffix], content, compressed, sha256(content).hexdigest()[:32])


@cache
def _names() -> frozenset[str]:
    """List the files once: a path of a request is compared with these names and never reaches the file system."""
    files = (each for each in FOLDER.rglob("*") if each.suffix in MEDIA_TYPES)
    return frozenset(each.relative_to(FOLDER).as_posix() for each in files)
