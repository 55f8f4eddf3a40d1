"""Networks as ONNX graphs: what is filled into a template is what onnx makes and checks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.training import export
from workers.training.data import Scaling
from workers.training.result import MlpModel


def network(hidden_sizes: list[int], activation: str, random: np.random.Generator) -> MlpModel:
    sizes = [64, *hidden_sizes, 10]
    layers = [
        (random.normal(size=(outputs, inputs)).astype(np.float32), random.normal(size=outputs).astype(np.float32))
        for inputs, outputs in pairwise(sizes)
    ]
    return MlpModel(layers, activation)


@given(
    hidden_sizes=st.lists(st.integers(1, 70), max_size=3),
    activation=st.sampled_from(["sigmoid", "tanh", "relu"]),
    scaling=st.sampled_from(["byte", "unit"]),
    seed=st.integers(0, 99),
)
def test_a_filled_template_has_the_bytes_of_a_graph_that_onnx_made(
    hidden_sizes: list[int], activation: str, scaling: Scaling, seed: int
) -> None:
    model = network(hidden_sizes, activation, np.random.default_rng(seed))
    assert export.to_onnx(model, scaling) == export.export_mlp(model, scaling)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_weights_that_are_all_equal_go_where_they_belong(value: float) -> None:
    model = network([3, 3], "tanh", np.random.default_rng(0))
    for weights, biases in model.layers:
        weights[:], biases[:] = value, value
    assert export.to_onnx(model, "unit") == export.export_mlp(model, "unit")


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("hidden_sizes", [[], [1], [12, 12], [33, 70, 5], [256], [1024, 300]])
def test_a_graph_answers_with_the_bits_of_a_session_with_default_options(
    hidden_sizes: list[int], activation: str
) -> None:
    """The API predicts by optimized graphs, trainers check and evaluate graphs as they are."""
    random = np.random.default_rng(0)
    graph = export.to_onnx(network(hidden_sizes, activation, random), "byte")
    served = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    own = export.open_session(graph)
    for number in (1, 77, 540):
        pixels = random.integers(0, 17, (number, 64))
        for ours, theirs in zip(
            vars(export.run(own, pixels)).values(), vars(export.run(served, pixels)).values(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
