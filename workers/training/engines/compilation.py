"""How the kernels are compiled by Numba, and when compiled code that lies on disk is used again."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy.typing as npt

from workers.training import augmentation, config, randomness, stack

Function = TypeVar("Function", bound=Callable[..., Any])
Array = npt.NDArray[Any]

# Full fast-math may reorder sums and assume that no number is NaN. These three flags do neither: they allow fused
# multiply-adds (contract), ignore the sign of zero (nsz) and multiply by reciprocals (arcp),
# https://llvm.org/docs/LangRef.html#fast-math-flags. `nogil` lets the engine's threads run at the same time.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp"}}
_ENGINES = Path(__file__).parent

# Numba checks one file before it reuses compiled code: the one that defines the function. The kernels also depend on
# these files, so a digest of them all becomes part of the cache's file names.
SOURCES = [
    *(Path(module.__file__ or "") for module in (augmentation, config, randomness, stack)),
    *(each for each in _ENGINES.glob("*.py") if not each.name.startswith("cuda_")),
]
DIGEST = sha256(b"".join(source.read_bytes() for source in sorted(SOURCES))).hexdigest()[:12]


def compiled(function: Function) -> Function:
    """Compile a function at its first call; Numba keeps the machine code on disk if it finds a writable folder."""
    function.__qualname__ += f"_{DIGEST}"  # Numba names the cache's files after the qualified name
    try:
        return cast(Function, numba.njit(cache=True, **OPTIONS)(function))
    except RuntimeError:  # Numba found no writable folder for its cache: each process compiles for itself
        return cast(Function, numba.njit(**OPTIONS)(function))
