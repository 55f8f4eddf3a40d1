"""Short names of parameters, which are paths into a configuration."""

from __future__ import annotations

from collections.abc import Sequence


def parameter_names(paths: Sequence[str]) -> dict[str, str]:
    """Map each path to its shortest end, in whole parts, that distinguishes it from the other paths."""
    return {path: _shortest_unique_end(path, paths) for path in paths}


def _shortest_unique_end(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if not any(other != path and f".{other}".endswith(f".{end}") for other in paths):
            return end
    return path
