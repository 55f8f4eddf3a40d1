"""Checkpoints as bytes."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workers.training import serialization
from workers.training.checkpoint import Array, TrainingState

dtypes = st.sampled_from([np.dtype(kind) for kind in (np.float32, np.float64, np.uint8)])
arrays = hnp.arrays(dtypes, hnp.array_shapes(max_dims=2, max_side=5, min_side=0))
states = st.builds(
    TrainingState,
    st.integers(0, 10**6),
    st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), arrays, max_size=6),
    st.fixed_dictionaries({"seconds": st.floats(0, 1e9), "name": st.text(), "best": st.none()}),
)


@given(state=states)
def test_a_state_is_read_as_it_was_written(state: TrainingState) -> None:
    read = serialization.from_bytes(serialization.to_bytes(state))
    assert (read.epoch, read.values) == (state.epoch, state.values)
    assert {name: _bits(array) for name, array in read.arrays.items()} == {
        name: _bits(array) for name, array in state.arrays.items()
    }


def test_views_are_written_by_their_values() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    read = serialization.from_bytes(serialization.to_bytes(TrainingState(1, {"weights1": array}, {})))
    np.testing.assert_array_equal(read.arrays["weights1"], array)


def test_another_format_is_refused() -> None:
    blob = safetensors.numpy.save({"weights1": np.zeros(1)}, {"format": "another", "epoch": "1", "values": "{}"})
    with pytest.raises(ValueError, match="not a checkpoint"):
        serialization.from_bytes(blob)


def _bits(array: Array) -> tuple[str, tuple[int, ...], bytes]:
    return array.dtype.name, array.shape, array.tobytes()
