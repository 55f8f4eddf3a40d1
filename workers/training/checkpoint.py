"""A training's state as bytes: safetensors, with everything else that a resume needs in its metadata. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.numpy

Array = npt.NDArray[np.generic]
FORMAT = "digitlab-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """A self-describing state: named arrays, and JSON-ready values beside them."""

    epoch: int
    arrays: Mapping[str, Array]
    values: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        metadata = {"format": FORMAT, "epoch": str(self.epoch), "values": json.dumps(self.values, sort_keys=True)}
        return safetensors.numpy.save(dict(self.arrays), metadata)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Checkpoint:
        """Read a checkpoint back.

        Raises:
            ValueError: These bytes are not a checkpoint of this format.
        """
        header_size = int.from_bytes(blob[:8], "little")  # https://huggingface.co/docs/safetensors#format
        metadata = json.loads(blob[8 : 8 + header_size])["__metadata__"]
        if metadata.get("format") != FORMAT:
            raise ValueError(f"not a checkpoint of format {FORMAT}")
        return cls(int(metadata["epoch"]), safetensors.numpy.load(blob), json.loads(metadata["values"]))
