"""Checkpoints as bytes, in the format safetensors; values that are not arrays go into its metadata. No pickle."""

from __future__ import annotations

import json

import numpy as np
import safetensors.numpy

from workers.training.checkpoint import TrainingState

FORMAT = "digitlab-checkpoint-2"


def to_bytes(checkpoint: TrainingState) -> bytes:
    values = json.dumps(checkpoint.values, sort_keys=True)
    metadata = {"format": FORMAT, "epoch": str(checkpoint.epoch), "values": values}
    # safetensors writes the memory of a view as if it were in order.
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    return safetensors.numpy.save(arrays, metadata)


def from_bytes(blob: bytes) -> TrainingState:
    """Read a checkpoint from its bytes.

    Raises:
        ValueError: The bytes are not a checkpoint of this format.
    """
    # 8 bytes of the header's size, the header as JSON, the arrays: https://huggingface.co/docs/safetensors#format
    header_size = int.from_bytes(blob[:8], "little")
    metadata = json.loads(blob[8 : 8 + header_size])["__metadata__"]
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not a checkpoint of format {FORMAT}")
    return TrainingState(int(metadata["epoch"]), safetensors.numpy.load(blob), json.loads(metadata["values"]))
