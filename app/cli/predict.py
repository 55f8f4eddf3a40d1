"""`digitlab predict`: sends images to the service and prints the predicted digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.table import Table

from app.cli.client import Client, read_json
from app.cli.terminal import Terminal


def classify(url: str, file: Path, run_id: str | None, *, as_json: bool) -> int:
    """Send the images in a file and print the predicted digits. Return the exit code."""
    params = {"run_id": run_id} if run_id else {}
    document = _request(read_json(file))
    with Client(url) as client:
        answer = client.call("POST", "predict", document=document, params=params)
        if as_json:
            print(json.dumps(answer))
            return 0
        table = Table("image", "digit", "confidence", "verdict")
        for number, prediction in enumerate(answer["predictions"]):
            table.add_row(
                str(number), str(prediction["digit"]), f"{prediction['confidence']:.2%}", prediction["verdict"]
            )
        model = answer["model"]
        author = f"Answered by run {model['run_id']}, val accuracy {model['val_accuracy']:.2%}."
        Terminal().print(table)
        Terminal(stderr=True).say(author)
    return 0


def _request(document: Any) -> Any:
    """Return a request as it is, or make one of a list of images or of a single image."""
    if not isinstance(document, list):
        return document
    first_row = document[0] if document else None
    is_single_image = isinstance(first_row, list) and bool(first_row) and not isinstance(first_row[0], list)
    return {"instances": [document] if is_single_image else document}
