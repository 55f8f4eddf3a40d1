"""Environment variables of other programs, which must not change this one."""

from __future__ import annotations

import os

# Other programs set these for libraries that the service uses. `app.charts.renderer` removes those of its libraries.
FOREIGN_VARIABLES = (
    "NUMBA_DISABLE_JIT",
    "PROMETHEUS_MULTIPROC_DIR",
    "prometheus_multiproc_dir",
)


def ignore_foreign_variables() -> None:
    """Remove them from this process's environment, and so from its children's, before a library reads them."""
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
