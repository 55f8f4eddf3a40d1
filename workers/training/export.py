"""Trained models as ONNX graphs, from raw pixels to probabilities; the scaling is part of the first layer's weights.

Every graph has one input, `pixels` (float32, N × 64, values 0–16), and an output `probabilities` (float32, N × 10).
That of a network also has `logits` (float32, N × 10), whose softmax are the probabilities: -logsumexp of the logits is
the energy of an image, which is high for what is no digit (Liu et al., 2020, "Energy-based out-of-distribution
detection"). The graphs of earlier versions have no logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from workers.training.config import NUM_CLASSES, NUM_PIXELS
from workers.training.data import SCALES, Pixels, Scaling
from workers.training.evaluation import Probabilities
from workers.training.result import EnsembleModel, MlpModel

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

OPSET = 21
IR_VERSION = 10  # onnxruntime 1.18 and newer read it
TOLERANCE = 1e-4
NODES = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}


class ExportMismatch(Exception):
    """The exported graph does not compute what the trained model computes."""


def to_onnx(model: MlpModel | RandomForestClassifier | EnsembleModel, scaling: Scaling | None) -> bytes:
    """A trained model as an ONNX graph; `scaling` is that of a network's training data, None for all others."""
    if isinstance(model, EnsembleModel):
        return model.graph
    if isinstance(model, MlpModel):
        assert scaling is not None
        return _export_mlp(model, scaling)
    return _export_forest(model)


def _export_mlp(network: MlpModel, scaling: Scaling) -> bytes:
    nodes, constants = [], []
    for number, (weights, biases) in enumerate(network.layers, start=1):
        # Weights are H × D. Dividing them by the scale is the same as scaling the pixels.
        scaled = weights / np.float32(SCALES[scaling]) if number == 1 else weights
        constants += [
            numpy_helper.from_array(scaled, f"weights{number}"),
            numpy_helper.from_array(biases, f"biases{number}"),
        ]
        before = "pixels" if number == 1 else f"layer{number - 1}"
        inputs = [before, f"weights{number}", f"biases{number}"]
        # N × D · (H × D)ᵀ + H
        nodes.append(helper.make_node("Gemm", inputs, [f"linear{number}"], transB=1))
        if number == len(network.layers):
            nodes[-1].output[:] = ["logits"]
            nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
        else:
            nodes.append(helper.make_node(NODES[network.activation], [f"linear{number}"], [f"layer{number}"]))
    graph = helper.make_graph(
        nodes,
        "digitlab-mlp",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", NUM_PIXELS])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", NUM_CLASSES])
            for name in ("probabilities", "logits")
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="digitlab")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _export_forest(forest: RandomForestClassifier) -> bytes:
    """The graph has one further output: `label`, int64, N."""
    # Imported here, since it loads scikit-learn: networks need neither, and the trainer starts sooner.
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    model: Any = skl2onnx.to_onnx(
        forest,
        initial_types=[("pixels", FloatTensorType([None, NUM_PIXELS]))],
        options={id(forest): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Answers:
    """What a graph computes for N images."""

    probabilities: Probabilities  # N × 10
    energies: npt.NDArray[np.float32] | None  # N; None: the graph has no logits


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session that runs an exported graph in one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, pixels: Pixels) -> Answers:
    """Run a graph on images (N × 8 × 8 or N × 64)."""
    inputs = {"pixels": pixels.reshape(-1, NUM_PIXELS).astype(np.float32)}
    if all(output.name != "logits" for output in session.get_outputs()):
        return Answers(session.run(["probabilities"], inputs)[0], None)
    probabilities, logits = session.run(["probabilities", "logits"], inputs)
    # The logarithm of a probability is its logit minus logsumexp of all.
    return Answers(probabilities, np.log(probabilities.max(axis=1)) - logits.max(axis=1))


def check(model: bytes, pixels: Pixels, expected: Probabilities) -> None:
    """Run an exported graph with onnxruntime and compare its probabilities with the trained model's.

    Args:
        model: The graph.
        pixels: N × 8 × 8.
        expected: The trained model's probabilities for them, N × 10.

    Raises:
        ExportMismatch: A probability differs by more than 1e-4.
    """
    difference = float(np.abs(run(open_session(model), pixels).probabilities - expected).max())
    if not difference <= TOLERANCE:
        raise ExportMismatch(f"The ONNX graph's probabilities differ from the trained model's by {difference:.2g}.")
