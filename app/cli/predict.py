"""`digitlab predict`: sends pictures or images to the service and prints the predicted digits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from app.cli.client import Client, Refused, parse_json, read_file
from app.cli.terminal import Terminal

# How files begin that the service reads as pictures. Everything else is JSON.
_PICTURES = {
    "image/png": rb"\x89PNG",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8",
    "image/webp": rb"RIFF....WEBP",
    "image/bmp": rb"BM",
}
# Files of these names are sent as they are: the service says in better words than a JSON parser what is wrong.
_OTHER_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".pdf", ".heic", ".avif"}


def classify(url: str, files: Sequence[Path], run_id: str | None, *, as_json: bool) -> int:
    """Send each file, a picture or JSON, and print the predicted digits.

    A file that is wrong does not keep the others from their answers.

    Returns:
        The exit code: that of the first wrong file.
    """
    params = {"run_id": run_id} if run_id else {}
    table = Table("image", "digit", "confidence", "verdict")
    models: dict[str, Any] = {}
    code = 0
    with Client(url) as client:
        for file in files:
            try:
                body = _read(file)
            except typer.Exit as error:
                code = code or error.exit_code
                continue
            try:
                answer = client.call("POST", "predict", **body, params=params, about=f"{file}: ")
            except Refused as error:
                code = code or error.exit_code
                continue
            if as_json:
                print(json.dumps(answer))
                continue
            predictions = answer["predictions"]
            for number, prediction in enumerate(predictions):
                name = _name(file, number, is_picture="pixels" in prediction, is_alone=len(files) == 1)
                table.add_row(name, str(prediction["digit"]), f"{prediction['confidence']:.2%}", prediction["verdict"])
            models[answer["model"]["run_id"]] = answer["model"]
        if as_json or not models:
            return code
        Terminal().print(table)
        for model in models.values():  # a new champion may have come between two files
            author = f"Answered by run {model['run_id']}, val accuracy {model['val_accuracy']:.2%}."
            Terminal(stderr=True).say(author)
    return code


def _read(file: Path) -> dict[str, Any]:
    """Return the arguments of `Client.call` that send a file."""
    content = read_file(file)
    media_type = _media_type(file, content)
    if media_type is not None:
        return {"file": (media_type, content)}
    return {"document": _request(parse_json(file, content))}


def _media_type(file: Path, content: bytes) -> str | None:
    """Return a picture's media type; None: it is JSON."""
    for media_type, beginning in _PICTURES.items():
        if re.match(beginning, content, re.DOTALL):
            return media_type
    return "image/png" if file.suffix.lower() in _OTHER_PICTURES else None


def _name(file: Path, number: int, *, is_picture: bool, is_alone: bool) -> str:
    if is_picture:
        return str(file)
    return str(number) if is_alone else f"{file} {number}"


def _request(document: Any) -> Any:
    """Return a request as it is, or make one of a list of images or of a single image."""
    if not isinstance(document, list):
        return document
    first_row = document[0] if document else None
    is_single_image = isinstance(first_row, list) and bool(first_row) and not isinstance(first_row[0], list)
    return {"instances": [document] if is_single_image else document}
