"""Digests of what is stored as bytes: written beside a blob, and compared when the blob is read."""

from __future__ import annotations

from hashlib import sha256

from app.errors import DamagedData


def digest(blob: bytes) -> str:
    """The SHA-256 of a blob, as 64 hexadecimal digits."""
    return sha256(blob).hexdigest()


def checked(blob: bytes, expected: str, what: str) -> bytes:
    """The blob, if it is what was stored.

    Args:
        blob: The bytes that were read.
        expected: Their digest, as stored beside them.
        what: Begins the error's sentence, as in "Checkpoint 'last' of run 01a2…".

    Raises:
        DamagedData: The digests differ.
    """
    if digest(blob) != expected:
        raise DamagedData(f"{what} does not match its sha256.")
    return blob
