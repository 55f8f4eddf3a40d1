"""Ensembles: the combined graph answers with the mean of its members, whatever they are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, version_converter
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss

from tests.graphs import graph_answering, random_graph
from tests.workers.training.conftest import Digits
from workers.training import export
from workers.training.data import Scaling, SplitData
from workers.training.ensemble import EnsembleTraining, SavedNetwork, UnusableMember, combine
from workers.training.result import EnsembleModel, MlpModel

Array = npt.NDArray[Any]
PIXELS = np.random.default_rng(1).integers(0, 17, (50, 64)).astype(np.float32)


def network(hidden_sizes: list[int], activation: str, scaling: Scaling, factor: float, seed: int) -> bytes:
    """Export a network with random weights; a large factor makes probabilities that are 0 in float32."""
    random = np.random.default_rng(seed)
    sizes = [64, *hidden_sizes, 10]
    layers = [
        (
            (factor * random.normal(size=(outputs, inputs)) / np.sqrt(inputs)).astype(np.float32),
            random.normal(size=outputs).astype(np.float32),
        )
        for inputs, outputs in pairwise(sizes)
    ]
    return export.to_onnx(MlpModel(layers, activation), scaling)


def saved(*graphs: bytes) -> list[SavedNetwork]:
    return [SavedNetwork(f"run{number}", graph, 610) for number, graph in enumerate(graphs)]


def run(graph: bytes, outputs: list[str], pixels: Array = PIXELS) -> list[Array]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    answers: list[Array] = session.run(outputs, {"pixels": pixels})
    return answers


def with_logits(graph: bytes) -> bytes:
    """Give a network's graph the further output `logits`, which its softmax reads."""
    model = onnx.load_model_from_string(graph)
    (softmax,) = (node for node in model.graph.node if node.op_type == "Softmax")
    (end,) = (node for node in model.graph.node if softmax.input[0] in node.output)
    end.output[0] = softmax.input[0] = "logits"
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def logits_of(graph: bytes) -> Array:
    model = onnx.load_model_from_string(graph)
    return run(graph if any(each.name == "logits" for each in model.graph.output) else with_logits(graph), ["logits"])[
        0
    ]


def assert_mean(graphs: list[bytes]) -> None:
    """Check both outputs against the members, which are run as they were saved."""
    combined = combine(saved(*graphs))
    model = onnx.load_model_from_string(combined)
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["pixels"]
    assert [each.name for each in model.graph.output] == ["probabilities", "logits"]
    probabilities, logits = run(combined, ["probabilities", "logits"])
    assert [(each.dtype.name, each.shape) for each in (probabilities, logits)] == [("float32", (50, 10))] * 2
    expected = np.mean([run(graph, ["probabilities"])[0] for graph in graphs], axis=0)
    np.testing.assert_allclose(probabilities, expected, atol=2e-6)
    assert np.isfinite(logits).all()
    energies = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.exp(logits - energies[:, None]), probabilities, atol=2e-4)
    of_members = [np.logaddexp.reduce(logits_of(graph).astype(np.float64), axis=1) for graph in graphs]
    np.testing.assert_allclose(energies, np.mean(of_members, axis=0), rtol=1e-5, atol=1e-5)


networks = st.builds(
    network,
    hidden_sizes=st.lists(st.integers(1, 12), max_size=2),
    activation=st.sampled_from(["relu", "tanh", "sigmoid"]),
    scaling=st.sampled_from(["byte", "unit"]),
    factor=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=25, deadline=None)
@given(graphs=st.lists(st.one_of(networks, networks.map(with_logits)), min_size=2, max_size=10))
def test_the_graph_of_an_ensemble_answers_with_the_mean_of_its_members(graphs: list[bytes]) -> None:
    assert_mean(graphs)


def test_logits_stay_finite_where_every_member_s_probability_is_zero() -> None:
    certain = [network([12], "relu", "unit", 100.0, seed) for seed in (0, 0, 0)]
    (probabilities,) = run(combine(saved(*certain)), ["probabilities"])
    assert (probabilities == 0).any()
    assert_mean(certain)


def test_members_of_older_operator_sets_are_converted() -> None:
    older = version_converter.convert_version(onnx.load_model_from_string(random_graph(1)), 17)
    assert_mean([random_graph(), older.SerializeToString(), graph_answering(3)])


def test_a_forest_and_bytes_that_are_no_graph_are_named(digits: Digits) -> None:
    data = digits.data()
    forest = RandomForestClassifier(2, max_depth=2, random_state=0)
    forest.fit(data.train_pixels.reshape(-1, 64).astype(np.float32), data.train_labels)
    for graph, why in ((export.to_onnx(forest, None), "no softmax"), (b"no graph", "no graph that can be read")):
        with pytest.raises(UnusableMember, match=f"run1 is .*{why}") as found:
            combine(saved(random_graph(), graph))
        assert found.value.code == "member_damaged"


def test_an_ensemble_is_evaluated_in_one_epoch_as_its_mean(digits: Digits) -> None:
    split = digits.split(test_size=0.2)
    data = SplitData.of(digits.pixels, digits.labels, split)
    graphs = [random_graph(seed) for seed in range(3)]
    training = EnsembleTraining(saved(*graphs), data)
    assert (training.is_finished, training.take_checkpoints()) == (False, {})
    ((_, metrics),) = training.run_epoch()
    assert (training.is_finished, metrics.epoch, metrics.gradient_norms, metrics.weight_norms) == (True, 1, None, None)
    result = training.result()
    assert isinstance(result.model, EnsembleModel)
    assert result.num_parameters == 3 * 610
    for pixels, labels, loss, accuracy in (
        (data.train_pixels, data.train_labels, metrics.train_eval_loss, metrics.train_eval_accuracy),
        (data.val_pixels, data.val_labels, metrics.val_loss, metrics.val_accuracy),
    ):
        images = pixels.reshape(-1, 64).astype(np.float32)
        mean = np.mean([run(graph, ["probabilities"], images)[0] for graph in graphs], axis=0)
        assert loss == pytest.approx(log_loss(labels, mean / mean.sum(axis=1, keepdims=True)), rel=1e-5)
        assert accuracy == pytest.approx((mean.argmax(axis=1) == labels).mean())
    assert (metrics.train_loss, metrics.train_accuracy) == (metrics.train_eval_loss, metrics.train_eval_accuracy)
    assert (result.chosen.val_accuracy, result.chosen.val_loss) == (metrics.val_accuracy, metrics.val_loss)
    export.check(result.model.graph, data.val_pixels, result.val_probabilities)
    assert result.test_probabilities is not None
    export.check(result.model.graph, data.test_pixels, result.test_probabilities)
    assert result.test_accuracy == (result.test_probabilities.argmax(axis=1) == data.test_labels).mean()
    training.leave()
    assert training.active == []


def test_the_loss_of_an_ensemble_that_is_certain_and_wrong_is_clipped_as_a_network_s(digits: Digits) -> None:
    data = digits.data()
    certain = network([], "relu", "unit", 1000.0, 0)
    training = EnsembleTraining(saved(certain, certain), data)
    ((_, metrics),) = training.run_epoch()
    right = metrics.val_accuracy
    assert metrics.val_loss == pytest.approx((1 - right) * -np.log(np.finfo(np.float32).eps), rel=0.05)
    assert training.result().test_accuracy is None
