"""Documents of the protocol (https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.datasets.catalog import NUM_CLASSES, NUM_PIXELS
from app.predictions.instances import MAX_INSTANCES
from app.predictions.schemas import A_ZERO
from app.validation import whole_number

INPUT = "pixels"
PROBABILITIES, DIGIT, VERDICT = "probabilities", "digit", "verdict"


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ServerLiveness(BaseModel):
    live: bool = True


class Readiness(BaseModel):
    ready: bool = True


class ModelReadiness(BaseModel):
    name: str
    ready: bool = True


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int] = Field(description="-1: any number of images.")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str] = Field(description="The id of the run that answers.")
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorMetadata] = [TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, NUM_PIXELS])]
    outputs: list[TensorMetadata] = [
        TensorMetadata(name=PROBABILITIES, datatype="FP32", shape=[-1, NUM_CLASSES]),
        TensorMetadata(name=DIGIT, datatype="INT64", shape=[-1]),
        TensorMetadata(name=VERDICT, datatype="BYTES", shape=[-1]),
    ]


# `app.http.json_bodies` does not read this body, so whole numbers written as 3.0 are accepted here.
Whole = Annotated[int, BeforeValidator(whole_number)]

_ANNOTATIONS = ("title", "description", "default", "examples")


class Document(BaseModel):
    """Part of a request. Unknown fields are let pass, as the protocol wants it; null is as if left out."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_nulls_out(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name in required}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Say in the OpenAPI schema that every optional field may be null."""
        document = handler.resolve_ref_schema(handler(schema))
        for name, field in document["properties"].items():
            members = field.get("anyOf", [{key: field.pop(key) for key in list(field) if key not in _ANNOTATIONS}])
            if name not in document.get("required", ()) and {"type": "null"} not in members:
                members.append({"type": "null"})
            field |= {"anyOf": members} if len(members) > 1 else members[0]
        return document


class TensorParameters(Document):
    shared_memory_region: str | None = Field(None, description="Not supported.")


class InputParameters(TensorParameters):
    binary_data_size: Whole | None = Field(None, ge=0, description="Bytes of this tensor behind the JSON.")


class InputTensor(Document):
    name: Literal["pixels"]
    datatype: Literal["FP32", "UINT8"]
    shape: list[Annotated[Whole, Field(ge=1, le=MAX_INSTANCES)]] = Field(
        min_length=2, max_length=4, description="[N, 64], [N, 8, 8] or [N, 1, 8, 8], with N up to 4,096."
    )
    data: list[Any] | None = Field(None, description="Numbers from 0 to 16, row by row, flat or nested.")
    parameters: InputParameters = InputParameters()


class OutputParameters(TensorParameters):
    binary_data: bool | None = Field(None, description="Send this tensor's bytes behind the JSON.")
    classification: Whole | None = Field(None, description="Not supported.")


class RequestedOutput(Document):
    name: Literal["probabilities", "digit", "verdict"]
    parameters: OutputParameters = OutputParameters()


class RequestParameters(Document):
    binary_data_output: bool = Field(False, description="The same for all outputs that do not say otherwise.")


class InferRequest(Document):
    id: str | None = Field(None, max_length=1000, description="Comes back with the answer.")
    inputs: list[InputTensor] = Field(
        min_length=1,
        max_length=1,
        examples=[[{"name": INPUT, "datatype": "UINT8", "shape": [1, 8, 8], "data": [A_ZERO]}]],
    )
    outputs: list[RequestedOutput] = Field(
        [], max_length=3, description="None: `probabilities` and `digit`; `verdict` is sent where it is asked for."
    )
    parameters: RequestParameters = RequestParameters()


class OutputTensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]
    data: list[float] | list[str] | None = Field(
        None, description="Row by row; not there where the bytes follow the JSON."
    )
    parameters: dict[str, int] | None = None


class InferResponse(BaseModel):
    model_name: str
    model_version: str = Field(description="The id of the run that answered.")
    id: str | None = None
    outputs: list[OutputTensor]
