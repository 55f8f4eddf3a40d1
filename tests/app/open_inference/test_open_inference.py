"""The Open Inference Protocol: predictions equal those of /predict, as JSON and as bytes; errors have its own form."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import httpx2
import numpy as np
import pytest
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from tests.conftest import AddModel, TestClient
from tests.graphs import graph_answering

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

INFER = "/v2/models/champion/infer"
JSON_LENGTH = "Inference-Header-Content-Length"
IMAGES = np.random.default_rng(1).integers(0, 17, (5, 8, 8))


def tensor(images: Any = IMAGES, **changes: Any) -> dict[str, Any]:
    whole = {"name": "pixels", "datatype": "FP32", "shape": [len(images), 8, 8], "data": np.asarray(images).tolist()}
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def infer(client: TestClient, *inputs: dict[str, Any], path: str = INFER, **fields: Any) -> httpx2.Response:
    return client.post(path, json={"inputs": list(inputs)} | fields)


def infer_bytes(
    client: TestClient, binary: bytes, size: int | None = None, json_length: str | None = None, **changes: Any
) -> httpx2.Response:
    """Send the input tensor as bytes after the JSON."""
    parameters = {"binary_data_size": len(binary) if size is None else size}
    one = tensor(data=..., parameters=parameters, **changes)
    text = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}}).encode()
    headers = {JSON_LENGTH: json_length or str(len(text))}
    return client.post(INFER, content=text + binary, headers=headers)


def outputs(response: httpx2.Response) -> dict[str, np.ndarray[Any, Any]]:
    """Return the output tensors by name, read from the JSON or from the bytes after it."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(JSON_LENGTH, len(response.content)))
    document, binary = json.loads(response.content[:length]), response.content[length:]
    found = {}
    for output in document["outputs"]:
        dtype = {"FP32": "<f4", "INT64": "<i8"}[output["datatype"]]
        if "data" in output:
            array = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            array, binary = np.frombuffer(binary[:size], dtype), binary[size:]
        found[output["name"]] = array.reshape(output["shape"])
    assert binary == b""
    return found


@pytest.fixture
def expected(client_with_model: TestClient) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of /predict for the same images."""
    answer = client_with_model.post("/predict", json={"instances": IMAGES.tolist()}).json()["predictions"]
    return {
        "probabilities": np.array([each["probabilities"] for each in answer], np.float32),
        "digit": np.array([each["digit"] for each in answer]),
    }


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 8, 8)])
@pytest.mark.parametrize("datatype", ["FP32", "UINT8"])
def test_every_shape_and_datatype_is_answered_as_predict_does(
    client_with_model: TestClient, expected: dict[str, np.ndarray[Any, Any]], shape: tuple[int, ...], datatype: str
) -> None:
    whole = [len(IMAGES), *shape]
    images = IMAGES.reshape(whole)
    binary = images.astype({"FP32": "<f4", "UINT8": "u1"}[datatype]).tobytes()
    for response in (
        infer(client_with_model, tensor(images, shape=whole, datatype=datatype)),
        infer(client_with_model, tensor(images, shape=whole, datatype=datatype, data=images.ravel().tolist())),
        infer_bytes(client_with_model, binary, shape=whole, datatype=datatype),
    ):
        found = outputs(response)
        assert list(found) == ["probabilities", "digit"]
        np.testing.assert_array_equal(found["digit"], expected["digit"])
        np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])


def test_verdicts_come_where_they_are_asked_for(client_with_model: TestClient) -> None:
    images = np.concatenate([IMAGES, np.full((1, 8, 8), 3)])
    predictions = client_with_model.post("/predict", json={"instances": images.tolist()}).json()["predictions"]
    expected = [each["verdict"] for each in predictions]
    assert expected == ["unsure"] * 5 + ["blank"]
    whole = tensor(images, shape=[6, 8, 8])
    asked = [{"name": name} for name in ("verdict", "digit")]
    verdict, digit = infer(client_with_model, whole, outputs=asked).json()["outputs"]
    assert verdict == {"name": "verdict", "datatype": "BYTES", "shape": [6], "data": expected}
    assert digit["data"] == [each["digit"] for each in predictions]
    response = infer(client_with_model, whole, outputs=asked, parameters={"binary_data_output": True})
    length = int(response.headers[JSON_LENGTH])
    size = json.loads(response.content[:length])["outputs"][0]["parameters"]["binary_data_size"]
    elements = b"".join(len(name).to_bytes(4, "little") + name.encode() for name in expected)
    assert response.content[length : length + size] == elements
    np.testing.assert_array_equal(np.frombuffer(response.content[length + size :], "<i8"), digit["data"])


def test_an_answer_names_model_version_and_request(client_with_model: TestClient, add_model: AddModel) -> None:
    other = add_model(0.1, graph_answering(7))
    champion = client_with_model.get("/models/champion").json()["model"]["run_id"]
    answer = infer(client_with_model, tensor(), id="request 1").json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("champion", champion, "request 1")
    for path in (f"/v2/models/{other}/infer", f"/v2/models/{other}/versions/{other}/infer"):
        answer = infer(client_with_model, tensor(), path=path).json()
        assert (answer["model_name"], answer["model_version"]) == (other, other)
        assert answer["outputs"][1]["data"] == [7] * 5
        assert "id" not in answer


def test_outputs_are_sent_as_they_are_asked_for(client_with_model: TestClient) -> None:
    digit = [{"name": "digit", "parameters": {"binary_data": True}}]
    response = infer(client_with_model, tensor(), outputs=digit)
    assert response.headers["content-type"] == "application/octet-stream"
    assert list(outputs(response)) == ["digit"]
    mixed = [{"name": "digit", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    response = infer(client_with_model, tensor(), outputs=mixed, parameters={"binary_data_output": True})
    first, second = json.loads(response.content[: int(response.headers[JSON_LENGTH])])["outputs"]
    assert len(first["data"]) == 5
    assert second["parameters"] == {"binary_data_size": 200}
    assert list(outputs(response)) == ["digit", "probabilities"]


def test_a_member_that_is_null_is_as_if_left_out(client_with_model: TestClient) -> None:
    """Clients in some languages write unset members as null; a text may also begin with a byte order mark."""
    plain = infer(client_with_model, tensor()).content
    of_input = {"shared_memory_region": None, "binary_data_size": None, "other": None}
    of_output = {"shared_memory_region": None, "binary_data": None, "classification": None}
    for nulls in (
        {"id": None, "outputs": None, "parameters": None},
        {"parameters": {"binary_data_output": None, "other": None}, "inputs": [tensor(parameters=None)]},
        {"inputs": [tensor(parameters=of_input)], "outputs": []},
        {"outputs": [{"name": name, "parameters": None} for name in ("probabilities", "digit")]},
        {"outputs": [{"name": name, "parameters": of_output} for name in ("probabilities", "digit")]},
    ):
        document = {"inputs": [tensor()]} | nulls
        assert infer(client_with_model, **document).content == plain
    marked = codecs.BOM_UTF8 + json.dumps({"inputs": [tensor()]}).encode()
    assert client_with_model.post(INFER, content=marked).content == plain
    length = {JSON_LENGTH: str(len(marked))}
    assert client_with_model.post(INFER, content=marked, headers=length).content == plain
    binary = (
        codecs.BOM_UTF8
        + json.dumps({"inputs": [tensor(data=None, datatype="UINT8", parameters={"binary_data_size": 320})]}).encode()
    )
    response = client_with_model.post(
        INFER, content=binary + IMAGES.astype(np.uint8).tobytes(), headers={JSON_LENGTH: str(len(binary))}
    )
    assert response.content == plain
    assert "#/inputs" in error_of(infer(client_with_model, inputs=None), 400)
    assert "#/outputs/0/name" in error_of(infer(client_with_model, tensor(), outputs=[{"name": None}]), 400)


def test_nulls_are_documented(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("InferRequest", "InputTensor", "RequestedOutput", "InputParameters", "RequestParameters"):
        document = schemas[name]
        for field, schema in document["properties"].items():
            takes_null = {"type": "null"} in schema.get("anyOf", [])
            assert takes_null == (field not in document.get("required", [])), (name, field)


def test_metadata_and_health(client_with_model: TestClient) -> None:
    champion = client_with_model.get("/models/champion").json()["model"]["run_id"]
    server = client_with_model.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("digitlab", ["binary_tensor_data"])
    assert client_with_model.get("/v2/health/live").json() == {"live": True}
    assert client_with_model.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/champion", f"/v2/models/champion/versions/{champion}"):
        model = client_with_model.get(path).json()
        assert (model["name"], model["versions"]) == ("champion", [champion])
        assert model["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
        assert [each["name"] for each in model["outputs"]] == ["probabilities", "digit", "verdict"]
        assert client_with_model.get(f"{path}/ready").json() == {"name": "champion", "ready": True}


def test_many_images_are_answered(client_with_model: TestClient) -> None:
    images = np.random.default_rng(2).integers(0, 17, (4096, 64)).astype("u1")
    found = outputs(infer_bytes(client_with_model, images.tobytes(), shape=[4096, 64], datatype="UINT8"))
    assert found["probabilities"].shape == (4096, 10)


def nested(pixel: Any) -> list[Any]:
    images: list[Any] = IMAGES.tolist()
    images[1][3][4] = pixel
    return images


BAD_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown input": (tensor(name="image"), "#/inputs/0/name"),
    "datatype": (tensor(datatype="INT8"), "#/inputs/0/datatype"),
    "shape": (tensor(shape=[5, 4, 16]), "[N, 8, 8]"),
    "shape without images": (tensor(shape=[0, 64]), "#/inputs/0/shape/0"),
    "one dimension": (tensor(shape=[320]), "#/inputs/0/shape"),
    "too many images": (tensor(shape=[4097, 64]), "#/inputs/0/shape/0"),
    "too few numbers": (tensor(data=[1] * 319), "has 320 numbers; got 319"),
    "nested otherwise": (tensor(IMAGES.reshape(5, 64), shape=[5, 8, 8]), "nested as [5, 64]"),
    "nested unevenly": (tensor(data=[[1], [2, 3]]), "nested unevenly"),
    "words": (tensor(data=["a"] * 320), "something else than numbers"),
    "true": (tensor(data=[True] * 320), "something else than numbers"),
    "true among numbers": (tensor(data=[1] * 319 + [True]), "something else than numbers"),
    "shared memory": (tensor(data=..., parameters={"shared_memory_region": "pixels"}), "shared memory"),
    "data and shared memory": (tensor(parameters={"shared_memory_region": "pixels"}), "shared memory"),
    "half a UINT8": (tensor(nested(0.5), datatype="UINT8"), "whole numbers"),
    "17": (tensor(nested(17)), "Image 1, number 28: A pixel is a number from 0 to 16; got 17"),
    "200": (tensor(nested(200)), "0–255"),
    "-1": (tensor(nested(-1)), "got -1"),
    "huge": (tensor(nested(1e30)), "very large"),
    "no data": (tensor(data=...), "either 'data'"),
    "data and bytes": (tensor(parameters={"binary_data_size": 320}), "either 'data'"),
    "bytes that are not there": (tensor(data=..., parameters={"binary_data_size": 320}), "0 bytes follow"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_a_bad_tensor_is_answered_with_what_is_wrong(client_with_model: TestClient, name: str) -> None:
    bad, explanation = BAD_TENSORS[name]
    assert explanation in error_of(infer(client_with_model, bad), 400)


def error_of(response: httpx2.Response, status: int) -> str:
    """Check the status and the protocol's error form; return the message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document: dict[str, str] = response.json()
    assert list(document) == ["error"]
    return document["error"]


def test_a_bad_request_is_answered_with_what_is_wrong(client_with_model: TestClient) -> None:
    assert "#/inputs" in error_of(infer(client_with_model), 400)
    assert "#/inputs" in error_of(infer(client_with_model, tensor(), tensor()), 400)
    assert "#/outputs/0/name" in error_of(infer(client_with_model, tensor(), outputs=[{"name": "x"}]), 400)
    assert "twice" in error_of(infer(client_with_model, tensor(), outputs=[{"name": "digit"}] * 2), 400)
    classes = [{"name": "digit", "parameters": {"classification": 3}}]
    assert "classification" in error_of(infer(client_with_model, tensor(), outputs=classes), 400)
    shared = [{"name": "digit", "parameters": {"shared_memory_region": "digits", "shared_memory_byte_size": 40}}]
    assert "shared memory" in error_of(infer(client_with_model, tensor(), outputs=shared), 400)
    assert "not JSON" in error_of(client_with_model.post(INFER, content=b"{"), 400)
    assert "#" in error_of(client_with_model.post(INFER, content=b"[]"), 400)
    for length in ("3", "-1", "x", "9" * 5000):
        response = client_with_model.post(INFER, content=b"{}", headers={JSON_LENGTH: length})
        assert "number of bytes" in error_of(response, 400)


def test_bytes_of_the_wrong_length_are_refused(client_with_model: TestClient) -> None:
    binary = IMAGES.astype("u1").tobytes()
    assert "follow the JSON" in error_of(infer_bytes(client_with_model, binary, size=319, datatype="UINT8"), 400)
    assert "no whole number" in error_of(infer_bytes(client_with_model, binary + b"\0"), 400)
    assert "got 80" in error_of(infer_bytes(client_with_model, binary), 400)
    not_a_number = np.full((5, 8, 8), np.nan, "<f4").tobytes()
    assert "finite" in error_of(infer_bytes(client_with_model, not_a_number), 400)
    text = json.dumps({"inputs": [tensor()]}).encode()
    response = client_with_model.post(INFER, content=text + b"more", headers={JSON_LENGTH: str(len(text))})
    assert "no input says" in error_of(response, 400)


def test_every_other_error_is_in_the_protocols_form(client_with_model: TestClient) -> None:
    client = client_with_model
    assert "no run" in error_of(client.get("/v2/models/nobody"), 404)
    assert "version" in error_of(client.get("/v2/models/champion/versions/1"), 404)
    assert "version" in error_of(infer(client, tensor(), path="/v2/models/champion/versions/1/infer"), 404)
    error_of(client.get("/v2/nothing"), 404)
    error_of(client.get(INFER), 405)
    error_of(client.get("/v2/models/" + "x" * 40), 422)
    error_of(client.post(INFER, content=b"x", headers={"Content-Encoding": "gzip"}), 415)
    error_of(client.post(INFER, content=b" " * (9 * 2**20)), 413)


def test_an_unexpected_error_is_in_the_protocols_form_and_names_no_internals(
    client_with_model: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("app.open_inference.endpoints.parse_request", fail)
    assert "secret" not in error_of(infer(client_with_model, tensor()), 500)


def test_images_are_counted_by_the_digit_answered(client_with_model: TestClient, add_model: AddModel) -> None:
    run_id = add_model(0.1, graph_answering(7))
    line = re.compile(r'^digitlab_predictions_total\{digit="7"\} (\S+)$', re.MULTILINE)
    before = line.search(client_with_model.get("/metrics").text)
    outputs(infer(client_with_model, tensor(), path=f"/v2/models/{run_id}/infer"))
    after = line.search(client_with_model.get("/metrics").text)
    assert before is not None
    assert after is not None
    assert float(after[1]) - float(before[1]) == 5


def test_without_a_model_it_is_not_ready(client: TestClient) -> None:
    error_of(client.get("/v2/health/ready"), 503)
    error_of(client.get("/v2/models/champion/ready"), 503)
    response = infer(client, tensor())
    error_of(response, 503)
    assert response.headers["retry-after"]


def test_a_refused_key_is_told_in_the_protocols_form(settings: Settings) -> None:
    with_key = settings.model_copy(update={"api_keys": SecretStr("predict:a-key")})
    with TestClient(create_app(with_key)) as client:
        assert "key" in error_of(client.get("/v2"), 401)
        client.headers["Authorization"] = "Bearer a-key"
        assert "admin" in error_of(client.delete("/v2/models/champion"), 403)
