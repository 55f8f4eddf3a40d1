"""What other programs leave in the environment, and this one must not be changed by."""

from __future__ import annotations

import os

# Set by others for libraries that the service uses. Those for pictures: `app.charts.renderer`.
FOREIGN_VARIABLES = (
    "NUMBA_DISABLE_JIT",
    "PROMETHEUS_MULTIPROC_DIR",
    "prometheus_multiproc_dir",
)


def ignore_foreign_variables() -> None:
    """Take them out of this process's environment, and so out of its children's, before a library reads them."""
    for name in FOREIGN_VARIABLES:
        os.environ.pop(name, None)
