"""Ensembles: the saved models of trained networks become one graph, which answers with the mean of their probabilities.

M members, N images, C = 10 classes. Member m has logits z_m (N × C), probabilities p_m = softmax(z_m) and energy
-log Σ exp z_m. The graph's outputs are p = mean p_m, and logits z = log p + mean over m of (log Σ exp z_m): softmax(z)
is the mean of the members' probabilities, and the energy of z the mean of their energies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper, version_converter

from workers.training.checkpoint import TrainingState
from workers.training.config import NUM_CLASSES, NUM_PIXELS
from workers.training.data import Labels, Pixels, SplitData
from workers.training.evaluation import Best, Metrics, Probabilities, Score
from workers.training.export import IR_VERSION, OPSET, open_session
from workers.training.result import EnsembleModel, Result
from workers.training.stack import clip_bounds

Logarithms = npt.NDArray[np.float64]
OUTPUTS = ("probabilities", "logits")
SMALLEST = 2.0**-126  # the smallest float32 of full precision


class UnusableMember(Exception):
    """A member of an ensemble is gone, damaged, or no network; `code` is the run's error code."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class SavedNetwork:
    """A member: its run's id, its ONNX graph, and the number of its weights and biases."""

    run_id: str
    graph: bytes
    num_parameters: int


class EnsembleTraining:
    """Combines and evaluates saved networks, in one epoch. It keeps no checkpoints: a resumed run begins anew."""

    def __init__(self, members: Sequence[SavedNetwork], data: SplitData) -> None:
        self.epoch = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.failure: str | None = None
        self.active = [self]
        self.provenance = {"engine": f"onnxruntime {onnxruntime.__version__}"}
        self._members = members
        self._data = data

    @property
    def is_finished(self) -> bool:
        return self.epoch == 1

    @property
    def num_done(self) -> int:
        return self.epoch

    def stop(self) -> None:
        """Nothing is left to do after the only epoch."""

    def run_epoch(self) -> list[tuple[EnsembleTraining, Metrics]]:
        """Evaluate the mean of the members.

        Raises:
            UnusableMember: A member's graph cannot be combined with others.
        """
        started = time.perf_counter()
        data = self._data
        members = [_open(member) for member in self._members]
        self._val = _log_mean(members, data.val_pixels)
        self._test = _log_mean(members, data.test_pixels) if len(data.test_labels) else None
        train = _score(_log_mean(members, data.train_pixels), data.train_labels)
        val = _score(self._val, data.val_labels)
        self.epoch = 1
        self.seconds += time.perf_counter() - started
        metrics = Metrics(self.epoch, *train, *train, *val, None, None, self.seconds)
        self.best = Best.of(metrics)
        return [(self, metrics)]

    def leave(self) -> None:
        self.active.clear()

    def take_checkpoints(self) -> dict[str, TrainingState]:
        """No checkpoints: see the class."""
        return {}

    def take_snapshots(self) -> list[TrainingState]:
        """No snapshots: its weights are its members', and do not change."""
        return []

    def result(self) -> Result:
        """The combined graph and its evaluation."""
        assert self.best is not None, "the epoch is over"
        test_probabilities = test_accuracy = None
        if self._test is not None:
            test_probabilities = _probabilities(self._test)
            test_accuracy = _score(self._test, self._data.test_labels).accuracy
        return Result(
            EnsembleModel(combine(self._members)),
            sum(member.num_parameters for member in self._members),
            self.best,
            _probabilities(self._val),
            test_probabilities,
            test_accuracy,
        )


def combine(members: Sequence[SavedNetwork]) -> bytes:
    """One self-contained graph with the mean of the members.

    Raises:
        UnusableMember: A member's graph cannot be combined with others.
    """
    nodes, constants, logits = [], [numpy_helper.from_array(np.array(SMALLEST, np.float32), "smallest")], []
    for number, member in enumerate(members):
        graph, end = _read(member)
        prefix = f"member{number}/"
        renamed_nodes, renamed_constants = _prefix(graph, prefix)
        nodes += renamed_nodes
        constants += renamed_constants
        logits.append(prefix + end)
    nodes += _mean(logits)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", NUM_CLASSES]) for name in OUTPUTS]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", NUM_PIXELS])
    combined = helper.make_graph(nodes, "digitlab-ensemble", [pixels], outputs, constants)
    model = helper.make_model(combined, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="digitlab")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _mean(logits: Sequence[str]) -> list[onnx.NodeProto]:
    """From the members' logits to the outputs; z − log p, the negative of a member's energy, is the same in each class.

    p is bounded from below, so that the output `logits` is finite where each member's probability is 0 in float32.
    """
    logarithms = [f"log_probabilities{number}" for number in range(len(logits))]
    probabilities = [f"probabilities{number}" for number in range(len(logits))]
    nodes = []
    for z, log_p, p in zip(logits, logarithms, probabilities, strict=True):
        nodes += [helper.make_node("LogSoftmax", [z], [log_p], axis=1), helper.make_node("Exp", [log_p], [p])]
    return [
        *nodes,
        helper.make_node("Mean", probabilities, ["probabilities"]),
        helper.make_node("Max", ["probabilities", "smallest"], ["positive"]),
        helper.make_node("Log", ["positive"], ["log_mean"]),
        helper.make_node("Mean", logits, ["mean_logits"]),
        helper.make_node("Mean", logarithms, ["mean_log_probabilities"]),
        helper.make_node("Sub", ["mean_logits", "mean_log_probabilities"], ["negative_energy"]),
        helper.make_node("Add", ["log_mean", "negative_energy"], ["logits"]),
    ]


def _read(member: SavedNetwork) -> tuple[onnx.GraphProto, str]:
    """A member's graph without the softmax that ends it, and the name of the logits, which the softmax reads."""
    try:
        model = onnx.load_model_from_string(member.graph)
        versions = {each.domain or "ai.onnx": each.version for each in model.opset_import}
        if versions.get("ai.onnx") != OPSET:
            model = version_converter.convert_version(model, OPSET)
    except Exception as error:  # the errors of onnx and of its converter have no common base class
        detail = f"The saved model of run {member.run_id} is no graph that can be read: {error}"
        raise UnusableMember("member_damaged", detail) from error
    graph = model.graph
    ends = [node for node in graph.node if "probabilities" in node.output]
    if [each.name for each in graph.input] != ["pixels"] or [node.op_type for node in ends] != ["Softmax"]:
        detail = f"The saved model of run {member.run_id} is no network: its probabilities come from no softmax."
        raise UnusableMember("member_damaged", detail)
    graph.node.remove(ends[0])
    return graph, ends[0].input[0]


def _prefix(graph: onnx.GraphProto, prefix: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants of a graph under names of their own; `pixels` is the input of all graphs."""

    def rename(name: str) -> str:
        return name if name in ("", "pixels") else prefix + name  # "": an input that is left out

    for node in graph.node:
        node.name = node.name and prefix + node.name
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    for constant in graph.initializer:
        constant.name = rename(constant.name)
    return list(graph.node), list(graph.initializer)


def _open(member: SavedNetwork) -> onnxruntime.InferenceSession:
    """A session that answers with a member's logits."""
    graph, logits = _read(member)
    output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["N", NUM_CLASSES])
    alone = helper.make_graph(graph.node, "member", graph.input, [output], graph.initializer)
    model = helper.make_model(alone, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return open_session(model.SerializeToString())


def _log_mean(members: Sequence[onnxruntime.InferenceSession], pixels: Pixels) -> Logarithms:
    """Logarithms of the mean of the members' probabilities (N × C), in float64."""
    images = pixels.reshape(-1, NUM_PIXELS).astype(np.float32)
    logits = np.array([member.run(None, {"pixels": images})[0] for member in members], np.float64)  # M × N × C
    logarithms = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    mean: Logarithms = np.logaddexp.reduce(logarithms, axis=0) - np.log(len(members))
    return mean


def _probabilities(logarithms: Logarithms) -> Probabilities:
    return np.exp(logarithms).astype(np.float32)


def _score(logarithms: Logarithms, labels: Labels) -> Score:
    """Loss and accuracy by logarithms of probabilities; each loss is clipped as a network's is."""
    loss = np.clip(-logarithms[np.arange(len(labels)), labels], *clip_bounds(torch.float32)).mean()
    return Score(float(loss), float((logarithms.argmax(axis=1) == labels).mean()))
