"""Saved models for tests: small ONNX graphs with the inputs and outputs of real ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@cache
def random_graph(seed: int = 0) -> bytes:
    """Make a network with random weights and export it as the trainer does."""
    from workers.training.export import to_onnx
    from workers.training.result import MlpModel

    random = np.random.default_rng(seed)
    layers = [
        (random.normal(size=(outputs, inputs)).astype(np.float32), random.normal(size=outputs).astype(np.float32))
        for inputs, outputs in ((64, 8), (8, 10))
    ]
    return to_onnx(MlpModel(layers, "relu"), "unit")


@cache
def graph_answering(digit: int) -> bytes:
    """Make a graph that predicts the same digit for every image."""
    bias = np.full(10, -5, np.float32)
    bias[digit] = 5
    weights = {"weights": np.zeros((64, 10), np.float32), "bias": bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["pixels", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "always_the_same",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
