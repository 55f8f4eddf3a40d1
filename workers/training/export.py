"""Trained models as ONNX graphs, from raw pixels to probabilities; the scaling is part of the first layer's weights.

Every graph has one input, `pixels` (float32, N × 64, values 0–16), and an output `probabilities` (float32, N × 10).
That of a network also has `logits` (float32, N × 10), whose softmax are the probabilities: -logsumexp of the logits is
the energy of an image, which is high for what is no digit (Liu et al., 2020, "Energy-based out-of-distribution
detection"). The graphs of earlier versions have no logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from workers.training.config import NUM_CLASSES, NUM_PIXELS
from workers.training.data import SCALES, Scaling
from workers.training.evaluation import Probabilities
from workers.training.result import EnsembleModel, MlpModel

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

Floats = npt.NDArray[np.float32]

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
        sizes = tuple(weights.shape for weights, _ in model.layers)
        return _template(sizes, model.activation).fill(_constants(model, scaling))
    return _export_forest(model)


class Template:
    """The graph of all networks of one shape and activation, with gaps for their weights and biases.

    Their graphs differ in these bytes only, so onnx makes and checks one of them.

    Args:
        graph: One of the graphs.
        constants: Its weights and biases, in the order in which they lie in it; no two may be equal.
    """

    def __init__(self, graph: bytes, constants: Sequence[bytes]) -> None:
        self._between = []
        start = 0
        for constant in constants:
            place = graph.index(constant, start)
            self._between.append(graph[start:place])
            start = place + len(constant)
        self._end = graph[start:]

    def fill(self, constants: Sequence[bytes]) -> bytes:
        """The graph with these weights and biases, of the same sizes."""
        parts = chain.from_iterable(zip(self._between, constants, strict=True))
        return b"".join((*parts, self._end))


@lru_cache(maxsize=16)
def _template(sizes: Sequence[tuple[int, ...]], activation: str) -> Template:
    """The template of networks whose layers have weights of these sizes (outputs × inputs)."""
    # Random numbers: no constant's bytes begin elsewhere in the graph.
    random = np.random.default_rng(0)
    layers = [
        (random.normal(size=size).astype(np.float32), random.normal(size=size[0]).astype(np.float32)) for size in sizes
    ]
    network = MlpModel(layers, activation)
    return Template(export_mlp(network, "byte"), _constants(network, "byte"))


def _constants(network: MlpModel, scaling: Scaling) -> list[bytes]:
    """Weights and biases as they lie in the graph."""
    return [array.tobytes() for layer in _scaled_layers(network, scaling) for array in layer]


def _scaled_layers(network: MlpModel, scaling: Scaling) -> list[tuple[Floats, Floats]]:
    """A network's layers, for pixels that are not scaled."""
    (weights, biases), *others = network.layers
    # Weights are H × D. Dividing them by the scale is the same as scaling the pixels.
    return [(weights / np.float32(SCALES[scaling]), biases), *others]


def export_mlp(network: MlpModel, scaling: Scaling) -> bytes:
    """A network's graph, made and checked by onnx; `to_onnx` returns the same bytes in a tenth of the time."""
    nodes, constants = [], []
    for number, (weights, biases) in enumerate(_scaled_layers(network, scaling), start=1):
        constants += [
            numpy_helper.from_array(weights, f"weights{number}"),
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
    confidences: npt.NDArray[np.float32]  # N, the largest probabilities
    energies: npt.NDArray[np.float32] | None  # N; None: the graph has no logits


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session that runs an exported graph in one thread, and is opened in half the usual time.

    The API's sessions optimize the graph, which takes longer than the few forward passes here gain by it. A network's
    probabilities and logits have the same bits either way.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def as_input(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Images (N × 8 × 8 or N × 64) as graphs take them, N × 64; not copied if they are that already."""
    return pixels.reshape(-1, NUM_PIXELS).astype(np.float32, copy=False)


def run(session: onnxruntime.InferenceSession, pixels: npt.NDArray[Any]) -> Answers:
    """Run a graph on images (N × 8 × 8 or N × 64)."""
    inputs = {"pixels": as_input(pixels)}
    if all(output.name != "logits" for output in session.get_outputs()):
        (probabilities,) = session.run(["probabilities"], inputs)
        return Answers(probabilities, _row_max(probabilities), None)
    probabilities, logits = session.run(["probabilities", "logits"], inputs)
    confidences = _row_max(probabilities)
    # The logarithm of a probability is its logit minus logsumexp of all.
    return Answers(probabilities, confidences, np.log(confidences) - _row_max(logits))


def _row_max(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The largest value of each row; by columns, which takes a fifth of numpy's time for short rows."""
    largest: npt.NDArray[np.float32] = np.ascontiguousarray(values.T).max(axis=0)
    return largest


def check(answers: Answers, expected: Probabilities) -> None:
    """Compare an exported graph's probabilities with the trained model's.

    Args:
        answers: What the graph computes for N images.
        expected: The trained model's probabilities for them, N × 10.

    Raises:
        ExportMismatch: A probability differs by more than 1e-4.
    """
    difference = float(np.abs(answers.probabilities - expected).max())
    if not difference <= TOLERANCE:
        raise ExportMismatch(f"The ONNX graph's probabilities differ from the trained model's by {difference:.2g}.")
