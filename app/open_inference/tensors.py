"""Reads and writes tensors as JSON, or as bytes behind the JSON.

The bytes are the protocol's binary tensor data extension, which github.com/triton-inference-server/server specifies in
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import codecs
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import ValidationError

from app.datasets.catalog import MAX_PIXEL, NUM_PIXELS
from app.errors import MalformedBody
from app.open_inference.schemas import DIGIT, PROBABILITIES, VERDICT, InferRequest, InputTensor, RequestedOutput
from app.predictions.answers import Digits
from app.predictions.instances import MAX_INSTANCES, Pixels, explain_pixel
from app.predictions.predictor import LoadedModel, Probabilities
from app.predictions.verdicts import NAMES, Verdicts
from app.validation import invalid_document
from app.wording import count

MAX_DIMENSIONS = 4  # no allowed shape has more; numpy raises its own errors beyond 32

IMAGE_SHAPES = ((NUM_PIXELS,), (8, 8), (1, 8, 8))
JSON_LENGTH_PATTERN = re.compile("[0-9]{1,9}")  # Python's int() refuses thousands of digits
DATATYPES = {PROBABILITIES: "FP32", DIGIT: "INT64", VERDICT: "BYTES"}
DTYPES: dict[str, npt.DTypeLike] = {"FP32": "<f4", "UINT8": "u1"}


def wrong(detail: str) -> MalformedBody:
    return MalformedBody(detail, slug="invalid-tensor")


def parse_request(body: bytes, json_length: str | None) -> tuple[InferRequest, Pixels]:
    """Parse a request and the images in it.

    Args:
        body: JSON, followed by the bytes of the input if it is sent as bytes.
        json_length: Value of the header Inference-Header-Content-Length, the number of bytes of JSON; None: all.

    Returns:
        The request, and its images as float32, N × 64, 0 to 16.

    Raises:
        MalformedBody: The request is not valid.
    """
    text, binary = _cut(body, json_length)
    try:
        document = orjson.loads(text.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise wrong(f"The request is not JSON: {error}.") from None
    try:
        request = InferRequest.model_validate(document)
    except ValidationError as error:
        raise wrong(invalid_document(error, document).detail) from error
    _refuse_what_is_not_supported(request)
    return request, _read(request.inputs[0], binary)


def _cut(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    if json_length is None:
        return body, b""
    if not JSON_LENGTH_PATTERN.fullmatch(json_length) or int(json_length) > len(body):
        got = f"got {json_length[:40]!r} of {len(body):,} bytes"
        raise wrong(f"Inference-Header-Content-Length is the number of bytes of JSON that the body begins with; {got}.")
    return body[: int(json_length)], body[int(json_length) :]


def _refuse_what_is_not_supported(request: InferRequest) -> None:
    names = [output.name for output in request.outputs]
    if len(set(names)) < len(names):
        raise wrong(f"An output is asked for twice: {names[0]}.")
    if any(output.parameters.classification is not None for output in request.outputs):
        raise wrong("The classification extension is not supported: ask for the output 'digit'.")
    tensors: list[InputTensor | RequestedOutput] = [*request.inputs, *request.outputs]
    if any(tensor.parameters.shared_memory_region is not None for tensor in tensors):
        raise wrong(
            "The shared memory extensions are not supported: send tensors as 'data', or as bytes behind the JSON."
        )


def _read(tensor: InputTensor, binary: bytes) -> Pixels:
    num_images, *image_shape = tensor.shape
    if tuple(image_shape) not in IMAGE_SHAPES or num_images > MAX_INSTANCES:
        raise wrong(f"The shape of 'pixels' is [N, 64], [N, 8, 8] or [N, 1, 8, 8], N up to 4,096; got {tensor.shape}.")
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise wrong(
            "The input 'pixels' has either 'data', or the parameter 'binary_data_size' and bytes behind the JSON."
        )
    if size is None and binary:
        raise wrong(f"{_follow(binary)}, and no input says that they are its.")
    values = _from_json(tensor) if size is None else _from_bytes(tensor, size, binary)
    if len(values) != num_images * NUM_PIXELS:
        raise wrong(f"The shape {tensor.shape} has {num_images * NUM_PIXELS:,} numbers; got {len(values):,}.")
    is_good = (values >= 0) & (values <= MAX_PIXEL)  # NaN gives false too
    if not is_good.all():
        image, pixel = divmod(int(np.argmin(is_good)), NUM_PIXELS)
        raise wrong(f"Image {image}, number {pixel}: {explain_pixel(values[image * NUM_PIXELS + pixel].item())}.")
    return values.astype(np.float32).reshape(num_images, NUM_PIXELS)


def _from_json(tensor: InputTensor) -> npt.NDArray[np.float64]:
    assert tensor.data is not None
    values = np.asarray(tensor.data, dtype=object)  # other types would turn true and false into numbers
    if values.ndim > MAX_DIMENSIONS:
        raise wrong("The data of 'pixels' is nested too deeply.")
    types = set(map(type, values.flat))
    if list in types:
        raise wrong("The data of 'pixels' is nested unevenly.")
    if not types <= {int, float}:
        raise wrong("The data of 'pixels' holds something else than numbers.")
    if values.ndim > 1 and list(values.shape) != tensor.shape:
        raise wrong(f"The data of 'pixels' is nested as {list(values.shape)}, and its shape is {tensor.shape}.")
    numbers = values.astype(np.float64).ravel()
    if tensor.datatype == "UINT8" and not (numbers == np.floor(numbers)).all():
        raise wrong("The data of 'pixels' is UINT8, and holds something else than whole numbers.")
    return numbers


def _from_bytes(tensor: InputTensor, size: int, binary: bytes) -> npt.NDArray[np.number[Any]]:
    dtype = np.dtype(DTYPES[tensor.datatype])
    if size != len(binary):
        raise wrong(f"'binary_data_size' is {size:,}, and {_follow(binary)}.")
    if size % dtype.itemsize:
        raise wrong(f"{count(size, 'byte')} {'is' if size == 1 else 'are'} no whole number of {tensor.datatype}.")
    return np.frombuffer(binary, dtype)


def _follow(binary: bytes) -> str:
    return f"{count(len(binary), 'byte')} {'follows' if len(binary) == 1 else 'follow'} the JSON"


def write_response(
    name: str,
    model: LoadedModel,
    request: InferRequest,
    digits: Digits,
    probabilities: Probabilities,
    verdicts: Verdicts | None,
) -> tuple[bytes, int | None]:
    """Write the response to a request.

    Args:
        name: Name of the model in the request's URL.
        model: The model that predicted.
        request: The request, which selects the outputs and their form.
        digits: Predicted digits, int64, N.
        probabilities: Predicted probabilities, float32, N × 10.
        verdicts: Verdicts, uint8, N; None if the request does not ask for them.

    Returns:
        The body, and the number of its bytes that are JSON; None if all are.
    """
    arrays: dict[str, npt.NDArray[Any]] = {PROBABILITIES: probabilities, DIGIT: digits}
    if verdicts is not None:
        arrays[VERDICT] = verdicts
    wanted: list[tuple[str, bool | None]] = [(each.name, each.parameters.binary_data) for each in request.outputs]
    outputs, parts = [], []
    for output, as_bytes in wanted or [(PROBABILITIES, None), (DIGIT, None)]:
        array = arrays[output]
        tensor: dict[str, Any] = {"name": output, "datatype": DATATYPES[output]}
        tensor["shape"] = list(array.shape)
        if request.parameters.binary_data_output if as_bytes is None else as_bytes:
            parts.append(_to_bytes(output, array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _names(array) if output == VERDICT else np.ascontiguousarray(array).ravel()
        outputs.append(tensor)
    document = {"model_name": name, "model_version": model.run_id, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"".join([text, *parts]), len(text) if parts else None


def _names(verdicts: npt.NDArray[np.uint8]) -> list[str]:
    return [NAMES[number] for number in verdicts.tolist()]


def _to_bytes(output: str, array: npt.NDArray[Any]) -> bytes:
    """Return a tensor's bytes; an element of BYTES is its length, as four bytes, and its text."""
    if output != VERDICT:
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    elements = [len(name).to_bytes(4, "little") + name.encode() for name in NAMES]
    return b"".join(elements[number] for number in array.tolist())
