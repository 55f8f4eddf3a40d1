"""An unmodified `tritonclient` over HTTP: metadata, readiness, and all val images in its own tensor encoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from tests.e2e.conftest import Processes, wait_for

KEY = "key-of-a-client-0123456789"


def authorization() -> dict[str, str]:
    """Make new headers for each call, since the client modifies them."""
    return {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def triton(idle_processes: Processes) -> Iterator[InferenceServerClient]:
    idle_processes.client.headers |= authorization()
    idle_processes.start_api(DIGITLAB_API_KEYS=f"admin:{KEY}")
    client = InferenceServerClient(f"127.0.0.1:{idle_processes.port}", concurrency=2)
    yield client
    client.close()


def val_split(processes: Processes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the val split: pixels, N × 8 × 8, and labels."""
    samples: list[dict[str, Any]] = []
    after: str | None = None
    while after is not None or not samples:
        query = {"split": "val", "limit": "200"} | ({} if after is None else {"after": after})
        page = processes.client.get("/datasets/digits/samples", params=query).json()
        samples += page["data"]
        after = page["next"]
    return np.array([each["pixels"] for each in samples]), np.array([each["label"] for each in samples])


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_tritonclient_infers_the_val_split_as_accurately_as_the_run_reports(
    idle_processes: Processes, triton: InferenceServerClient
) -> None:
    processes = idle_processes
    assert triton.is_server_live(headers=authorization())
    assert not triton.is_server_ready(headers=authorization())
    with pytest.raises(InferenceServerException, match="key"):
        triton.get_server_metadata()
    processes.start_worker()
    run = processes.finish(processes.submit({"preset": "dropout-tanh", "training": {"epochs": 60}}))
    wait_for(lambda: triton.is_server_ready(headers=authorization()))
    assert triton.is_model_ready("champion", headers=authorization())
    assert triton.get_server_metadata(headers=authorization())["extensions"] == ["binary_tensor_data"]
    metadata = triton.get_model_metadata("champion", headers=authorization())
    assert metadata["versions"] == [run["id"]]

    images, labels = val_split(processes)
    assert len(images) == 540
    for datatype, dtype, shape, as_bytes in (
        ("FP32", np.float32, [540, 64], True),
        ("UINT8", np.uint8, [540, 8, 8], True),
        ("FP32", np.float32, [540, 1, 8, 8], False),
    ):
        tensor = InferInput(metadata["inputs"][0]["name"], shape, datatype)
        tensor.set_data_from_numpy(images.astype(dtype).reshape(shape), binary_data=as_bytes)
        result = triton.infer("champion", [tensor], headers=authorization())  # all outputs as bytes, its default
        assert result.get_response()["model_version"] == run["id"]
        digits, probabilities = result.as_numpy("digit"), result.as_numpy("probabilities")
        assert probabilities.shape == (540, 10)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), digits)
        assert (digits == labels).sum() == round(run["best"]["val_accuracy"] * 540)

    outputs = [InferRequestedOutput("digit", binary_data=False)]
    version = run["id"]
    single = InferInput("pixels", [1, 64], "UINT8")
    single.set_data_from_numpy(images[:1].astype(np.uint8).reshape(1, 64))
    answer = triton.infer(version, [single], version, outputs, request_id="7", headers=authorization()).get_response()
    assert (answer["id"], answer["model_name"], len(answer["outputs"])) == ("7", version, 1)
    too_bright = InferInput("pixels", [1, 64], "UINT8")
    too_bright.set_data_from_numpy(np.full((1, 64), 255, np.uint8))
    with pytest.raises(InferenceServerException, match="Divide them by 16"):
        triton.infer("champion", [too_bright], headers=authorization())
