"""The worker: a light parent process that claims runs, and a trainer child where torch lives."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # as in app/__init__.py, which training does not import
