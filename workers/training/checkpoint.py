"""A run's state as named arrays and JSON-ready values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class TrainingState:
    """A self-describing state: everything that is needed to resume the run."""

    epoch: int
    arrays: Mapping[str, Array]
    values: Mapping[str, Any]
