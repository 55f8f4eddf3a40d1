"""`POST /digitize`, and pictures and strokes for `POST /predict`: all bodies and answers, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.predictions.verdicts import NAMES
from tests.app.pictures.files import encode, flat_png, seven
from tests.conftest import AddModel, AssertProblem, TestClient
from tests.graphs import graph_answering

on_sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

BINARY = "application/octet-stream"
PNG = encode(seven())
TEXT = b64encode(PNG).decode()
STROKES = [[[30, 20], [70, 20], [45, 80]]]
BODIES: dict[str, dict[str, Any]] = {
    "file": {"content": PNG, "headers": {"Content-Type": "image/png"}},
    "another kind of file than it says": {"content": PNG, "headers": {"Content-Type": "image/jpeg"}},
    "a type as many clients spell it": {"content": PNG, "headers": {"Content-Type": "Image/JPG; name=digit.jpg"}},
    "base64": {"json": {"pictures": [TEXT]}},
    "data URL": {"json": {"pictures": [f"data:image/png;base64,{TEXT}"]}},
    "multipart": {"files": {"digit": ("digit.png", PNG, "image/png")}},
    **{
        encoding: {
            "content": json.dumps({"pictures": [TEXT]}).encode(encoding),
            "headers": {"Content-Type": "application/json"},
        }
        for encoding in ("utf-8-sig", "utf-16", "utf-32-be")
    },
}


@on_sqlite
def test_every_body_and_every_answer_shows_the_same_pixels(client_with_model: TestClient) -> None:
    expected = client_with_model.post("/digitize", **BODIES["file"]).json()["pixels"]
    (image,) = expected
    (of_instance,) = client_with_model.post("/predict", json={"instances": expected}).json()["predictions"]
    assert "pixels" not in of_instance
    for name, body in BODIES.items():
        assert client_with_model.post("/digitize", **body).json() == {"pixels": expected}, name
        full = client_with_model.post("/predict", **body).json()["predictions"]
        assert full == [of_instance | {"pixels": image}], name
        lean = client_with_model.post("/predict?probabilities=false", **body).json()["predictions"]
        assert set(lean[0]) == {"digit", "confidence", "pixels"}, name
        as_bytes = {**body, "headers": body.get("headers", {}) | {"Accept": BINARY}}
        assert client_with_model.post("/digitize", **as_bytes).content == np.array(image, np.uint8).tobytes()
        answer = client_with_model.post("/predict", **as_bytes)
        assert list(answer.content) == [of_instance["digit"]]
        assert "model-sha256" in answer.headers


DOT = [[[50, 50]]]
DOTS = [[[x, y]] for x in (10, 40, 70) for y in (10, 60)]


@on_sqlite
def test_what_has_no_digits_shape_is_no_digit_in_every_answer(client: TestClient, add_model: AddModel) -> None:
    add_model(graph=graph_answering(1))  # sure of a 1, whatever it sees
    radial = np.hypot(*np.mgrid[-32:32, -32:32]) * 5
    gradient = b64encode(encode(Image.fromarray(radial.clip(0, 255).astype(np.uint8)))).decode()
    drawn = {"strokes": [STROKES, DOT, [], DOTS, [*STROKES, *DOT]]}
    names = ["unsure", "not_a_digit", "blank", "not_a_digit", "unsure"]
    for query in ("", "?probabilities=false&verdict=true"):
        predictions = client.post(f"/predict{query}", json=drawn).json()["predictions"]
        assert [(each["digit"], each["verdict"]) for each in predictions] == [(1, name) for name in names]
        (round_one,) = client.post(f"/predict{query}", json={"pictures": [gradient]}).json()["predictions"]
        assert round_one["verdict"] == "not_a_digit"
    as_bytes = client.post("/predict?verdict=true", json=drawn, headers={"Accept": BINARY}).content
    assert list(as_bytes) == [byte for name in names for byte in (1, NAMES.index(name))]
    assert list(client.post("/predict", json=drawn, headers={"Accept": BINARY}).content) == [1] * 5


@on_sqlite
def test_many_pictures_are_answered_in_order(client_with_model: TestClient) -> None:
    files = [("file", ("a", PNG)), ("file", ("b", flat_png(9, 9))), ("c", ("c", PNG))]
    sums = [np.sum(image) for image in client_with_model.post("/digitize", files=files).json()["pixels"]]
    assert (sums[0], sums[1]) == (sums[2], 0)
    drawn = client_with_model.post("/predict", json={"strokes": [STROKES, [], STROKES]}).json()["predictions"]
    assert [bool(np.sum(each["pixels"])) for each in drawn] == [True, False, True]
    all_of_them = client_with_model.post("/digitize", json={"pictures": [TEXT] * 256}).json()["pixels"]
    assert len(all_of_them) == 256


@on_sqlite
@pytest.mark.parametrize("path", ["/predict", "/digitize"])
@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"content": b"", "headers": {"Content-Type": "image/png"}}, 422, "#"),
        ({"content": PNG[:99], "headers": {"Content-Type": "image/png"}}, 422, "#"),
        ({"content": PNG, "headers": {"Content-Type": "image/svg+xml"}}, 415, None),
        ({"content": PNG, "headers": {"Content-Type": "image/tiff"}}, 415, None),
        ({"content": PNG, "headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}}, 415, None),
        ({"json": {"pictures": [TEXT, TEXT, TEXT, b64encode(PNG[:99]).decode()]}}, 422, "#/pictures/3"),
        ({"json": {"pictures": [TEXT], "instances": []}}, 422, "#/instances"),
        ({"json": {"strokes": [STROKES, [[[0, "x"]]]]}}, 422, "#/strokes/1/0/0/1"),
        ({"content": b'{"pictures": [', "headers": {"Content-Type": "application/json"}}, 400, None),
        ({"files": [("a", ("a", PNG)), ("b", ("b", b"%PDF"))]}, 422, "#/1"),
        ({"files": [("a", ("a", PNG))] * 257}, 422, "#"),
        ({"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 422, "#"),
        ({"content": b"nothing", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, None),
        ({"content": b"--x\r\n\r\nabc", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, None),
        ({"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}}, 400, None),
        ({"content": flat_png(8000, 5000), "headers": {"Content-Type": "image/png"}}, 413, "#"),
        ({"json": {"pictures": [b64encode(flat_png(4096, 4096)).decode()] * 20}}, 413, "#/pictures/1"),
    ],
)
def test_what_is_wrong_is_answered_with_its_place(
    client_with_model: TestClient,
    assert_problem: AssertProblem,
    path: str,
    body: dict[str, Any],
    status: int,
    pointer: str | None,
) -> None:
    problem = assert_problem(client_with_model.post(path, **body), status, None)
    assert pointer is None or [each["pointer"] for each in problem["errors"]] == [pointer]


@on_sqlite
def test_images_of_8_by_8_are_no_pictures(client_with_model: TestClient, assert_problem: AssertProblem) -> None:
    problem = assert_problem(client_with_model.post("/digitize", json={"instances": [[[0] * 8] * 8]}), 422, None)
    assert problem["errors"][0]["pointer"] == "#/instances"
    refused = client_with_model.post("/digitize", content=b"\0" * 64, headers={"Content-Type": BINARY})
    assert_problem(refused, 415, None)


@on_sqlite
def test_digitizing_needs_no_model_and_predicting_does(client: TestClient, assert_problem: AssertProblem) -> None:
    assert client.post("/digitize", **BODIES["file"]).status_code == 200
    assert_problem(client.post("/predict", **BODIES["file"]), 503, "no-saved-model")


def test_nothing_of_pictures_is_loaded_before_the_first_one(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from app.main import create_app; from app.settings import Settings; "
        "create_app(Settings(data_dir=Path(sys.argv[1]))); "
        "print([name for name in ('PIL', 'app.pictures.bodies', 'app.pictures.digitization') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
