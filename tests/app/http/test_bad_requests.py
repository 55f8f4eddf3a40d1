"""Bad requests: each gets a problem body that names the error, and stores nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import AssertProblem, TestClient


def _image(pixel: Any = 0) -> list[list[Any]]:
    """Make an image of zeros, except for the pixel in row 3, column 4."""
    image: list[list[Any]] = [[0] * 8 for _ in range(8)]
    image[3][4] = pixel
    return image


PIXEL = "#/instances/0/3/4"
BAD_IMAGES = {
    "flat image": ({"instances": [[0] * 64]}, "#/instances/0"),
    "seven rows": ({"instances": [_image()[:7]]}, "#/instances/0"),
    "short row": ({"instances": [[[0] * 7, *_image()[1:]]]}, "#/instances/0/0"),
    "second image": ({"instances": [_image(), _image(-1)]}, "#/instances/1/3/4"),
    "NaN": ({"instances": [_image(float("nan"))]}, PIXEL),
    "infinity": ({"instances": [_image(float("inf"))]}, PIXEL),
    "17": ({"instances": [_image(17)]}, PIXEL),
    "200": ({"instances": [_image(200)]}, PIXEL),
    "huge integer": ({"instances": [_image(10**400)]}, PIXEL),
    "string": ({"instances": [_image("3")]}, PIXEL),
    "true": ({"instances": [_image(True)]}, PIXEL),
    "null": ({"instances": [_image(None)]}, PIXEL),
    "empty list": ({"instances": []}, "#/instances"),
    "no field": ({}, "#/instances"),
    "4097 images": ({"instances": [_image()] * 4097}, "#/instances"),
    "unknown field": ({"instances": [_image()], "a/b": 1}, "#/a~1b"),
    "list": ([_image()], "#"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_answered_with_its_place(
    client_with_model: TestClient, assert_problem: AssertProblem, name: str
) -> None:
    document, pointer = BAD_IMAGES[name]
    headers = {"content-type": "application/json"}
    response = client_with_model.post("/predict", content=json.dumps(document), headers=headers)
    body = assert_problem(response, 422, "invalid-input")
    assert body["errors"][0]["pointer"] == pointer
    assert ("0–255" in body["errors"][0]["detail"]) == (name in ("17", "200"))


def test_broken_json_is_not_an_image(client_with_model: TestClient, assert_problem: AssertProblem) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(client_with_model.post("/predict", content='{"instances": [', headers=headers), 400, None)


def test_a_good_image_is_answered(client_with_model: TestClient) -> None:
    answer = client_with_model.post("/predict", json={"instances": [_image(16)]}).json()
    assert sum(answer["predictions"][0]["probabilities"]) == pytest.approx(1, abs=1e-5)


JSON = "application/json"
BAD_REQUESTS: dict[str, tuple[str, str, str, str, int | None]] = {
    "unknown field": ("POST", "/runs", '{"modle": {}}', JSON, None),
    "unknown nested field": ("POST", "/runs", '{"training": {"lr": 1}}', JSON, None),
    "unknown preset": ("POST", "/runs", '{"preset": "nope"}', JSON, 404),
    "huge width": ("POST", "/runs", '{"model": {"hidden_sizes": [1000000]}}', JSON, None),
    "no epochs": ("POST", "/runs", '{"training": {"epochs": 0}}', JSON, None),
    "epochs as string": ("POST", "/runs", '{"training": {"epochs": "3"}}', JSON, None),
    "broken JSON": ("POST", "/runs", '{"model": ', JSON, 400),
    "not an object": ("POST", "/runs", "[]", JSON, None),
    "media type": ("POST", "/runs", "{}", "text/plain", 415),
    "media type of predict": ("POST", "/predict", "{}", "text/plain", 415),
    "method": ("PUT", "/runs", "{}", JSON, 405),
    "unknown id": ("GET", "/runs/nope", "", JSON, 404),
    "unknown path": ("GET", "/nope", "", JSON, 404),
    "preset and from_run": ("POST", "/runs", '{"preset": "dropout-tanh", "from_run": "x"}', JSON, None),
    "unknown from_run": ("POST", "/runs", '{"from_run": "x"}', JSON, 404),
    "training for a forest": (
        "POST",
        "/runs",
        '{"model": {"kind": "random_forest"}, "training": {"epochs": 3}}',
        JSON,
        None,
    ),
    "unknown member": ("POST", "/runs", '{"model": {"kind": "ensemble", "members": ["x", "y"]}}', JSON, 404),
    "an ensemble of one": ("POST", "/runs", '{"model": {"kind": "ensemble", "members": ["x"]}}', JSON, None),
    "an ensemble without members": ("POST", "/runs", '{"model": {"kind": "ensemble"}}', JSON, None),
    "limit": ("GET", "/runs?limit=0", "", JSON, None),
    "limit as text": ("GET", "/runs?limit=many", "", JSON, None),
    "cursor": ("GET", "/runs?after=nonsense", "", JSON, None),
    "NUL in a name": ("POST", "/runs", '{"name": "\\u0000"}', JSON, None),
    "NUL in a tag": ("POST", "/runs", '{"tags": {"a": "\\u0000"}}', JSON, None),
    "NUL in an id": ("GET", "/runs/%00", "", JSON, None),
    "NUL in a filter": ("GET", "/events?run_id=%00", "", JSON, None),
    "NUL in a stream's filter": ("GET", "/events/stream?sweep_id=%00&after=0", "", JSON, None),
    "oversized body": ("POST", "/runs", '{"notes": "' + "x" * 9 * 2**20 + '"}', JSON, 413),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_answered_with_a_problem_and_stores_nothing(
    client: TestClient, assert_problem: AssertProblem, name: str
) -> None:
    method, path, content, media_type, status = BAD_REQUESTS[name]
    response = client.request(method, path, content=content, headers={"content-type": media_type})
    assert_problem(response, status or 422, None)
    assert client.get("/runs").json()["data"] == []
